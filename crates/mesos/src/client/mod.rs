//! A scheduler's and an executor's side of the API.
