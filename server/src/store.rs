//! The trust domain on disk.
