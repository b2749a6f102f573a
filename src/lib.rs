//! Towline runs GitHub Actions workflows on your own machines, over SSH.
//!
//! ```text
//!  source         fact       text         intent     state      decision      order      process     words      memory     view
//! trigger ──▶   Event ──▶ Workflow ──▶   Plan ──▶   Run ──▶  Assignment ──▶  Order ──▶ Transport ──▶ Report ──▶ Store ──▶ API, pages, forge
//! triggers/     event     workflow       plan       run        queue        runner    transport    toolkit    store     server, forge
//!                 └──────────────────── pure ────────────────────┘            └─── I/O ───┘         pure      └──── I/O ────┘
//! ```
//!
//! A room uses rooms above it in this list within its half; the shell may use the core, never the other way.

// Pure: values and functions.
pub mod diagnostic;
pub mod engine;
pub mod event;
pub mod expr;
pub mod id;
pub mod plan;
pub mod queue;
pub mod run;
pub mod toolkit;
pub mod workflow;

// Shell: performs effects.
pub mod actions;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod drive;
pub mod forge;
pub mod git;
pub mod runner;
pub mod server;
pub mod services;
pub mod store;
pub mod transport;
pub mod triggers;
pub mod vault;
