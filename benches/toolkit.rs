//! How fast a step's output becomes log lines.

fn main() {
    divan::main();
}
