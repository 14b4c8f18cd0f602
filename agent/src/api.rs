//! The services on the agent's sockets.
