//! The `towline` binary: arguments, logger, exit code; nothing else.

fn main() -> std::process::ExitCode {
    towline::cli::main()
}
