//! The suite from outside, one module for each thing it promises.
