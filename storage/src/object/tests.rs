//! Every operation on every backend, swaps that race, and answers that get lost.
