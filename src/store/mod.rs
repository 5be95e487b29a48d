//! The durable record: redb, one transaction per state change.
