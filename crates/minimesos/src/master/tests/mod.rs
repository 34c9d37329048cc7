//! Tests of the pure master.
