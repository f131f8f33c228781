//! The small offline program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    ExitCode::from(lethe_verify::run(
        arguments,
        &mut std::io::stdout().lock(),
        &mut std::io::stderr().lock(),
    ))
}
