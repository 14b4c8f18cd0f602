//! Entries and SVIDs that this agent holds.
