//! The commands: arguments in, exit code out. The only room that prints.
//!
//! Exit codes: 0 success, 1 the run failed (or errors were found), 2 invalid input, 3 environment.

mod actions;
mod audit;
mod check;
mod completion;
mod delivery;
mod demo;
mod doctor;
mod drain;
mod environment;
mod eval;
mod exec;
mod export;
mod given;
mod hook;
mod host;
mod init;
mod job;
mod logger;
mod man;
mod outbox;
mod output;
mod plan;
mod queue;
mod remote;
mod repo;
mod run;
mod runtime;
mod schedule;
mod screen;
mod serve;
mod support_bundle;
mod token;
mod trust;
mod vault;
mod why;
mod workflow;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use remote::Asking;

/// Runs GitHub Actions workflows on your own machines, over SSH.
#[derive(Debug, Parser)]
#[command(name = "towline", version, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks workflow and action files.
    Check(check::Arguments),
    /// Evaluates expressions.
    Eval(eval::Arguments),
    /// Shows the jobs an event would start; nothing is executed.
    Plan(plan::Arguments),
    /// Explains a selection, a condition or a wait.
    Why(why::Arguments),
    /// Runs a workflow here and now, without the daemon.
    Exec(exec::Arguments),
    /// Runs the daemon.
    Serve(serve::Arguments),
    /// Sets up this machine, or puts a sample workflow into a project.
    Init(init::Arguments),
    /// Finds what commonly goes wrong, and says how to mend it.
    Doctor(doctor::Arguments),
    /// Waits politely until no job runs; none starts meanwhile.
    Drain(drain::Arguments),
    /// Packs what a helper from afar needs; no secrets.
    SupportBundle(support_bundle::Arguments),
    /// Shows the main job on two hosts inside this process.
    Demo(demo::Arguments),
    /// Lists, adds, checks, drains and removes hosts.
    Host(host::Arguments),
    /// Lists, adds and removes repositories.
    Repo(repo::Arguments),
    /// Lists, shows, watches, cancels and repeats runs.
    Run(Asking<run::Command>),
    /// Logs in where a job works; lets a held one go.
    Job(Asking<job::Command>),
    /// Lists, shows, starts, enables and disables workflows.
    Workflow(workflow::Arguments),
    /// Lists what waits and why; pauses and resumes.
    Queue(Asking<queue::Command>),
    /// Sets, lists and removes secrets.
    Secret(Asking<vault::SecretCommand>),
    /// Sets, shows, lists and removes variables.
    Variable(Asking<vault::VariableCommand>),
    /// Lists and sets the protection rules of environments.
    Environment(environment::Arguments),
    /// Pins, verifies and copies the actions a repository uses.
    Actions(actions::Arguments),
    /// Adds, lists and removes node for hosts that have none.
    Runtime(runtime::Arguments),
    /// Makes, lists and revokes API tokens.
    Token(Asking<token::Command>),
    /// Writes the whole state as lines of JSON.
    Export(export::Export),
    /// Reads what was exported into a new state.
    Import(export::Import),
    /// Lists, shows and repeats what came from outside.
    Delivery(Asking<delivery::Command>),
    /// Lists what forges and people are still to be told; sends it again.
    Outbox(Asking<outbox::Command>),
    /// Lists schedules with their next times.
    Schedule(Asking<schedule::Command>),
    /// Shows who did what, newest first.
    Audit(audit::Arguments),
    /// Prints completions for a shell.
    Completion(completion::Arguments),
    /// Writes manual pages and the reference.
    Man(man::Arguments),
    /// Prints the authority of the daemon's own certificate, or has this machine trust it.
    Trust(trust::Arguments),
    /// What git runs in a repository that was added.
    #[command(hide = true)]
    Hook(hook::Arguments),
}

/// Success.
pub const SUCCESS: u8 = 0;
/// The run failed or was cancelled; `check` found errors.
pub const FAILED: u8 = 1;
/// The input was refused before anything ran.
pub const INVALID: u8 = 2;
/// A machine, file or network this needs is not there.
pub const ENVIRONMENT: u8 = 3;

/// The threads of a command that runs jobs; `None`, and said, when there can be none.
#[expect(clippy::print_stderr, reason = "the command line prints")]
fn threads() -> Option<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .thread_stack_size(crate::runner::STACK)
        .enable_all()
        .build()
        .inspect_err(|error| eprintln!("error: cannot start: {error}"))
        .ok()
}

/// Runs the command line and says how the process should exit.
#[must_use]
pub fn main() -> ExitCode {
    // A pusher waits for it: it does without the words of all the others.
    if std::env::args_os().nth(1).is_some_and(|word| word == "hook") {
        return ExitCode::from(hook::run(hook::Alone::parse_from(std::env::args_os().skip(1)).arguments));
    }
    // An editor waits for this one at each key; whatever it does not take is for the words of all to explain.
    if std::env::args_os().nth(1).is_some_and(|word| word == "check")
        && let Ok(alone) = check::Alone::try_parse_from(std::env::args_os().skip(1))
    {
        return ExitCode::from(check::run(&alone.arguments));
    }
    let arguments = Arguments::parse();
    ExitCode::from(match arguments.command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Why(arguments) => why::run(&arguments),
        Command::Exec(arguments) => exec::run(arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Drain(arguments) => drain::run(arguments),
        Command::SupportBundle(arguments) => support_bundle::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Host(arguments) => host::run(arguments),
        Command::Repo(arguments) => repo::run(arguments),
        Command::Run(asking) => asking.run(run::execute),
        Command::Job(asking) => asking.run(job::execute),
        Command::Workflow(arguments) => workflow::run(arguments),
        Command::Queue(asking) => asking.run(queue::execute),
        Command::Secret(asking) => asking.run(vault::secret),
        Command::Variable(asking) => asking.run(vault::variable),
        Command::Environment(arguments) => environment::run(arguments),
        Command::Actions(arguments) => actions::run(arguments),
        Command::Runtime(arguments) => runtime::run(arguments),
        Command::Token(asking) => asking.run(token::execute),
        Command::Trust(arguments) => trust::run(&arguments),
        Command::Export(arguments) => export::export(arguments),
        Command::Import(arguments) => export::import(&arguments),
        Command::Delivery(asking) => asking.run(delivery::execute),
        Command::Outbox(asking) => asking.run(outbox::execute),
        Command::Schedule(asking) => asking.run(schedule::execute),
        Command::Audit(arguments) => audit::run(arguments),
        Command::Completion(arguments) => completion::run(&arguments),
        Command::Man(arguments) => man::run(arguments),
        Command::Hook(arguments) => hook::run(arguments),
    })
}
