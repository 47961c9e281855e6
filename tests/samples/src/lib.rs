//! What the tests and measurements of the samples share: their features, a Redis, a Lambda function.

pub mod features;
pub mod lambda;
pub mod redis;
