//! What a step prints: captured in files of its sandbox first, then sent to a coordinator
//! from those files.
//!
//! [`capture`] copies pipes to files and rotates them; [`ship`] follows a file and posts what
//! is new. A coordinator that is away thus never holds up the step; what is rotated away
//! before any coordinator took it is lost to the stream, and said so.

pub mod capture;
pub mod ship;
