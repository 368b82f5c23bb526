//! The agent: the program in a Linux guest that runs one command for `hv exec`.
//!
//! It connects to the tool over a Hyper-V socket ([`link`]), learns the command ([`order`]), expands its patterns
//! ([`pattern`]), starts it ([`job`]), passes bytes on in both directions ([`session`]), and says how it ended. One
//! thread waits for everything, so whatever is not read stops its own direction alone. Both sides are of one version:
//! the tool puts the agent into the guest, and gives it the time ([`renew`]) and folders of the host ([`share`]), each
//! of which has threads of its own.
mod job;
mod link;
mod order;
mod pattern;
mod renew;
mod session;
mod share;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The stock initramfs's script gives it what the user has to know.
    let notice = std::env::args().nth(1).unwrap_or_default();
    match session::run(&notice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // On the guest's console: `hv exec` shows its end if the agent is lost.
            eprintln!("hv: FAILED: agent: {error}");
            ExitCode::FAILURE
        }
    }
}
