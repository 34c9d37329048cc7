//! Finds what is wrong with a definition, before anything runs.
