//! The verbs.

use std::io::{self, Write as _};
use std::path::Path;

use nexuserofs_guest::assembly::{Workplace, execute, teardown};
use nexuserofs_guest::devices::wait_for;
use nexuserofs_guest::{Plan, approve, plan};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Arguments, USAGE, Verb};
use crate::failure::Failure;
use crate::init;
use crate::inputs::{Inputs, now};

/// Does what was asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Help => write(USAGE),
        Verb::Verify => verify(arguments),
        Verb::Plan => print(&planned(&Inputs::read(arguments)?, arguments)?),
        Verb::Mount => {
            let target = arguments.target.as_deref().ok_or_else(|| usage("--target DIRECTORY"))?;
            let plan = mount(&Inputs::read(arguments)?, arguments, target)?;
            print(&json!({ "image_hash": plan.image_hash(), "target": target }))
        }
        Verb::Umount => Ok(teardown(&workplace(arguments), arguments.busy)?),
        Verb::Inspect => print(&arguments.sysfs.block_devices()?),
        Verb::Init => init::init(arguments),
    }
}

fn verify(arguments: &Arguments) -> Result<(), Failure> {
    let inputs = Inputs::read(arguments)?;
    let policy = inputs.policy()?;
    let image_hash = match (&arguments.manifest, &arguments.kata) {
        (Some(_), None) => policy.approve(&inputs.signed()?, now())?.image_hash(),
        _ => approve(&inputs.descriptor()?, &policy, now())?.image_hash(),
    };
    print(&json!({ "image_hash": image_hash }))
}

/// What is to be done, as soon as all devices are there.
fn planned(inputs: &Inputs<'_>, arguments: &Arguments) -> Result<Plan, Failure> {
    let descriptor = inputs.descriptor()?;
    let policy = inputs.policy()?;
    // A refusal needs no device, and nobody should wait for one.
    approve(&descriptor, &policy, now())?;
    let queries: Vec<_> = descriptor.assembly.queries().collect();
    let devices = wait_for(&arguments.sysfs, &queries, inputs.patience()?)?;
    Ok(plan(&descriptor, &policy, &devices, now())?)
}

/// Makes the root file system on `target`.
pub(crate) fn mount(inputs: &Inputs<'_>, arguments: &Arguments, target: &Path) -> Result<Plan, Failure> {
    let plan = planned(inputs, arguments)?;
    execute(&plan, &workplace(arguments), target, arguments.reading)?;
    Ok(plan)
}

fn workplace(arguments: &Arguments) -> Workplace {
    Workplace::new(&arguments.run, arguments.id.clone())
}

fn usage(missing: &str) -> Failure {
    Failure::Usage(format!("this verb needs {missing}"))
}

fn print(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(io::Error::from).map_err(Failure::file("print", "-"))?;
    write(&format!("{text}\n"))
}

fn write(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::file("write to", "-"))
}
