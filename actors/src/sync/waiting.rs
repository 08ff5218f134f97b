//! Long polls that wait for something new.

use futures::channel::oneshot;

/// Resolves when it is time to look again.
pub(crate) type Woken = oneshot::Receiver<()>;

/// Those who wait.
#[derive(Default)]
pub(crate) struct Waiting(Vec<oneshot::Sender<()>>);

impl Waiting {
    /// One more. Those who have given up make room for it.
    pub fn add(&mut self) -> Woken {
        self.drop_closed();
        let (sender, woken) = oneshot::channel();
        self.0.push(sender);
        woken
    }

    /// Nobody waits.
    pub fn is_empty(&mut self) -> bool {
        self.drop_closed();
        self.0.is_empty()
    }

    fn drop_closed(&mut self) {
        self.0.retain(|sender| !sender.is_canceled());
    }

    /// Wakes all who wait. Who finds nothing new waits again.
    pub fn wake(&mut self) {
        for sender in self.0.drain(..) {
            let _ = sender.send(());
        }
    }
}
