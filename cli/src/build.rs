//! `hv build`: the programs in `bare/`, for the bare-metal target.

use anyhow::bail;
use hv_machine::is_aarch64_elf;

use crate::exit::Exit;
use crate::input::{Input, LONGEST, Named};
use crate::setup::{programs, target};
use crate::ui;

/// Build the hypervisor, or another program in bare/
///
/// Installs the Rust target that it needs first, if it is missing, and prints the path of each file. `hv boot` and `hv
/// test` build what they need themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folders in bare/ to build
    #[arg(value_name = "PROGRAM", default_value = "hypervisor")]
    programs: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv build
  cargo hv build hello stress
  cargo hv boot --firmware dt --kernel $(cargo hv build hello)";

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    for name in &args.programs {
        programs::known(name)?;
    }
    for name in &args.programs {
        let toolchain = target::prepare_for(programs::target_of(name))?;
        ui::note(&format!("Using {}", toolchain.description));
        ui::out(&format!("{}\n", programs::build(&toolchain, name)?.display()));
    }
    Ok(Exit::Success)
}

/// Returns the hypervisor to use: the given one, else that of this source tree, building it.
pub(crate) fn hypervisor(given: Option<&Input>) -> anyhow::Result<Named> {
    match given {
        Some(file) => {
            let bytes = file.read("the hypervisor", LONGEST)?;
            if !is_aarch64_elf(&bytes) {
                bail!(
                    "the hypervisor {file} is not an AArch64 ELF program; give one that `hv build` made, or none to have it built"
                );
            }
            file.named(&bytes)
        }
        None => Ok(programs::build(&target::prepare()?, "hypervisor")?.into()),
    }
}
