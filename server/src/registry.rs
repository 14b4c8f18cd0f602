//! The trust domain in memory.
