//! Lets the same work be done once at a time: whoever comes second waits, and then finds the result.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// One lock for each key that someone holds or waits for.
#[derive(Debug)]
pub(super) struct Turns<K>(Arc<Mutex<HashMap<K, Lock>>>);

/// The right to work on one key, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<K: Eq + Hash + Copy> {
    key: K,
    locks: Arc<Mutex<HashMap<K, Lock>>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Copy> Turns<K> {
    /// Waits until nobody else works on `key`.
    pub(super) async fn take(&self, key: K) -> Turn<K> {
        let lock = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        // Made before the wait, so that a waiter who gives up cleans up after itself as well.
        let mut turn = Turn { key, locks: Arc::clone(&self.0), guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl<K: Eq + Hash + Copy> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // New users join under the map's lock only, so a count of one cannot grow meanwhile.
        if let Entry::Occupied(lock) = locks.entry(self.key)
            && Arc::strong_count(lock.get()) == 1
        {
            lock.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_at_a_time_for_a_key() {
        let (turns, inside, most) =
            (Arc::new(Turns::default()), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (turns, inside, most) = (Arc::clone(&turns), Arc::clone(&inside), Arc::clone(&most));
                tokio::spawn(async move {
                    let turn = turns.take("layer").await;
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 1);
        assert_eq!(turns.len(), 0, "locks that nobody uses are gone");
    }

    #[tokio::test]
    async fn keys_do_not_wait_for_each_other_and_a_waiter_may_give_up() {
        let turns = Turns::default();
        let first = turns.take(1).await;
        let _second = turns.take(2).await;
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), turns.take(1)).await;
        assert!(waiting.is_err());
        drop(first);
        drop(turns.take(1).await);
        assert_eq!(turns.len(), 1);
    }
}
