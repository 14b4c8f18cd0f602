//! What the registry promises its callers, over the memory store.
