//! SPIFFE and SPIRE wire types.
