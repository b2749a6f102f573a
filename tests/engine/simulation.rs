//! The engine in a world that goes wrong: random events, delays, hosts that die, reports that are lost and repeated,
//! and a crash between any persist and act. What must always hold is checked after every step.
//!
//! A schedule is a pure function of its seed. A failing one prints it:
//! `TOWLINE_SIMULATION_SEED=N cargo test --test main engine::simulation -- --nocapture` replays it with a trace.
//! `TOWLINE_SIMULATION_SCHEDULES=N` sets how many are tried.

use std::panic::{AssertUnwindSafe, catch_unwind};

use towline::plan::Files;

use super::world::World;

/// Schedules where nothing else is said; `tests/run` asks for a hundred thousand. (Optimising this crate alone for tests was
/// measured: building it takes longer than it saves.)
const SCHEDULES: u64 = if cfg!(debug_assertions) { 15_000 } else { 100_000 };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[test]
fn invariants_hold_in_every_schedule() {
    if let Some(seed) = number("TOWLINE_SIMULATION_SEED") {
        World::new(seed, &Files::default(), true).run();
        return;
    }
    let schedules = number("TOWLINE_SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let totals = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let files = Files::default();
                    (worker..schedules)
                        .step_by(usize::try_from(threads).expect("few threads"))
                        .map(|seed| one(seed, &files))
                        .collect::<Totals>()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("the failure was printed above")).collect::<Totals>()
    });
    let Totals { steps, crashes, runs, jobs, lost } = totals;
    println!(
        "engine simulation: {schedules} schedules, {steps} steps, {runs} runs, {jobs} jobs, {crashes} crashes, {lost} jobs lost with their host"
    );
    // A world in which nothing happens proves nothing.
    assert!(schedules < 1000 || (crashes > schedules / 2 && runs > schedules && lost > schedules / 100));
}

fn one(seed: u64, files: &Files) -> Totals {
    match catch_unwind(AssertUnwindSafe(|| World::new(seed, files, false).run())) {
        Ok(totals) => totals,
        Err(panic) => {
            eprintln!("the schedule of seed {seed} failed; replay it with");
            eprintln!("TOWLINE_SIMULATION_SEED={seed} cargo test --test main engine::simulation -- --nocapture");
            std::panic::resume_unwind(panic);
        }
    }
}

/// What a schedule did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub steps: u64,
    pub crashes: u64,
    pub runs: u64,
    pub jobs: u64,
    pub lost: u64,
}

impl FromIterator<Totals> for Totals {
    fn from_iter<T: IntoIterator<Item = Totals>>(all: T) -> Self {
        all.into_iter().fold(Self::default(), |sum, one| Self {
            steps: sum.steps + one.steps,
            crashes: sum.crashes + one.crashes,
            runs: sum.runs + one.runs,
            jobs: sum.jobs + one.jobs,
            lost: sum.lost + one.lost,
        })
    }
}
