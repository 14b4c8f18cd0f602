//! Where the agent's key lives.
