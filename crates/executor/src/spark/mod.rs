//! Spark applications: the right Spark is [found](find), its spark-submit is
//! [called](submit), and its progress is [read](progress) from the driver's own REST API.

pub mod find;
pub mod progress;
pub mod submit;
