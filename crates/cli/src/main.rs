//! The program `hull`: arguments, output, progress and hints around the
//! operations of the other crates.

#![forbid(unsafe_code)]

mod args;
mod clock;
mod commands;
mod environment;
mod failure;
#[cfg(test)]
mod golden;
mod hints;
mod host_v1;
mod output;
mod progress;
mod render;
mod rootless;
mod select;
mod timestamp;
mod yaml;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut environment = environment::read();
    if let Some(steps) = environment.stop_after {
        hull_sys::durable::stop_after(steps);
    }
    let (cli, name) = match args::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    rootless::enter(&cli, &mut environment);
    match commands::run(cli, name, &environment) {
        Ok(code) => code,
        Err(failure) => hints::report(&failure, &environment),
    }
}
