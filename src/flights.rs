//! Work that several may ask for at the same time and that is done once, whether or not somebody still waits.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};

use crate::error::MatrixError;

/// What came of it. `None`: nothing yet.
type Outcome<T> = Option<Result<T, Arc<MatrixError>>>;

/// Work under way, by what it is about.
pub struct Flights<K, T>(Arc<Mutex<HashMap<K, watch::Receiver<Outcome<T>>>>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// What comes of this work: of that which is under way, or else of `work`, which is begun on the runtime.
    pub async fn join<W>(&self, io: &Handle, key: K, work: W) -> Result<T, MatrixError>
    where
        W: Future<Output = Result<T, MatrixError>> + Send + 'static,
    {
        let mut outcome = self.enter(io, key, work);
        let lost = || MatrixError::Unavailable("the work was interrupted".into());
        let outcome = outcome.wait_for(Option::is_some).await.map_err(|_| lost())?;
        match outcome.as_ref() {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(error)) => Err(MatrixError::shared(error)),
            None => Err(lost()),
        }
    }

    fn enter<W>(&self, io: &Handle, key: K, work: W) -> watch::Receiver<Outcome<T>>
    where
        W: Future<Output = Result<T, MatrixError>> + Send + 'static,
    {
        let mut flights = self.0.lock();
        if let Some(outcome) = flights.get(&key) {
            return outcome.clone();
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key.clone(), receiver.clone());
        let landing = Landing { flights: Arc::clone(&self.0), key };
        io.spawn(async move {
            let outcome = work.await.map_err(Arc::new);
            // First what it is about is free again: who comes now begins anew, and finds what was done.
            drop(landing);
            sender.send_replace(Some(outcome));
        });
        receiver
    }
}

/// Ends a flight, also when its work panics.
struct Landing<K: Eq + Hash, T> {
    flights: Arc<Mutex<HashMap<K, watch::Receiver<Outcome<T>>>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn work_is_done_once_for_all_who_wait_and_again_for_the_next() {
        let (flights, io) = (Flights::<u32, u32>::default(), Handle::current());
        let (times, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (times, gate) = (Arc::clone(&times), Arc::clone(&gate));
            async move {
                gate.notified().await;
                Ok(times.fetch_add(1, Ordering::Relaxed))
            }
        };
        let open = async { gate.notify_one() };
        let (first, second, ()) =
            futures::join!(flights.join(&io, 1, work()), flights.join(&io, 1, work()), open);
        assert_eq!((first.unwrap(), second.unwrap()), (0, 0));
        gate.notify_one();
        assert_eq!(flights.join(&io, 1, work()).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn failure_and_panic_are_told() {
        let (flights, io) = (Flights::<u32, u32>::default(), Handle::current());
        let failed = flights.join(&io, 1, async { Err(MatrixError::not_found("x")) }).await;
        assert_eq!(failed.unwrap_err().status(), 404);
        let lost = flights.join(&io, 1, async { panic!("as the test wants") }).await;
        assert_eq!(lost.unwrap_err().status(), 503);
        assert!(flights.0.lock().is_empty());
    }
}
