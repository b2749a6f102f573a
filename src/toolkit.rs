//! The contract with a step process, both ways: environment, command files, `::commands::`, masks, problem matchers, summaries.
//!
//! Pure: no I/O, no clock, no async.
