//! Locks by key: one holder for each key, waiters for the same key only.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A set of locks that need not exist before they are taken.
#[derive(Clone, Debug)]
pub(super) struct KeyedLocks<K: Ord> {
    shared: Arc<Shared<K>>,
}

#[derive(Debug)]
struct Shared<K> {
    held: Mutex<BTreeSet<K>>,
    released: Condvar,
}

/// Holds the lock of one key until dropped.
#[derive(Debug)]
pub(super) struct KeyedGuard<K: Ord> {
    key: K,
    shared: Arc<Shared<K>>,
}

impl<K: Ord> Default for KeyedLocks<K> {
    fn default() -> Self {
        let shared = Shared { held: Mutex::new(BTreeSet::new()), released: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }
}

impl<K: Ord + Clone> KeyedLocks<K> {
    /// Waits until nobody holds `key`, and holds it.
    pub(super) fn lock(&self, key: K) -> KeyedGuard<K> {
        let mut held = self.shared.held();
        while held.contains(&key) {
            held = self.shared.released.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.insert(key.clone());
        drop(held);
        KeyedGuard { key, shared: Arc::clone(&self.shared) }
    }
}

impl<K> Shared<K> {
    fn held(&self) -> MutexGuard<'_, BTreeSet<K>> {
        // A panic elsewhere cannot leave a set half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord> Drop for KeyedGuard<K> {
    fn drop(&mut self) {
        self.shared.held().remove(&self.key);
        self.shared.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn one_key_has_one_holder_and_another_key_does_not_wait() {
        let locks = KeyedLocks::default();
        let first = locks.lock(1);
        drop(locks.lock(2));
        let (sender, receiver) = mpsc::channel();
        let waiter = thread::spawn({
            let (locks, sender) = (locks.clone(), sender.clone());
            move || {
                let _second = locks.lock(1);
                sender.send("second").unwrap();
            }
        });
        sender.send("first").unwrap();
        drop(first);
        waiter.join().unwrap();
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["first", "second"]);
    }
}
