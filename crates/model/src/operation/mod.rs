//! The machine that runs every long operation.
