//! The end of the server, as those who wait learn of it.

use tokio::sync::watch;

/// A flag that is raised once. Cheap to clone; whoever waits long selects on [`Shutdown::begun`].
#[derive(Clone, Debug)]
pub struct Shutdown {
    raise: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { raise: watch::Sender::new(false) }
    }
}

impl Shutdown {
    /// Tells everyone to come to an end.
    pub fn begin(&self) {
        self.raise.send_replace(true);
    }

    /// Whether the server is ending.
    pub fn is_begun(&self) -> bool {
        *self.raise.borrow()
    }

    /// Resolves when the server is about to end; at once when it already is.
    pub async fn begun(&self) {
        // An error means that the sender is gone, and `self` holds it.
        let _ = self.raise.subscribe().wait_for(|raised| *raised).await;
    }
}
