//! The contract with a step process, both ways: environment, command files, `::commands::`, masks, problem matchers, summaries.
//!
//! What goes in: [`environment`] and [`shell`] say how a step is started, [`header`] what its log begins with.
//! What comes out: [`output`] turns the raw bytes of a step into log lines and [`output::Effect`]s, with the help of
//! [`command`], [`matcher`], [`mask`] and [`stamp`]; [`file_command`] and [`artifacts`] read the files a step wrote.
//! It does not know where a step runs: whoever calls it reads files and processes and passes bytes on.
//!
//! Pure: no I/O, no clock, no async.

pub mod annotation;
pub mod artifacts;
pub mod command;
pub mod container;
pub mod environment;
pub mod file_command;
pub mod hash_files;
pub mod header;
pub mod mask;
pub mod matcher;
pub mod output;
pub mod shell;
pub mod stamp;
