//! Where the authorities' keys live.
