//! The command `leben`; see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    leben::io::cli::main()
}
