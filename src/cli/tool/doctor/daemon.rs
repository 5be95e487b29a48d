//! Whether the daemon runs and answers.

use super::finding::{Area, Finding};
use crate::client::{Connection, Error};
use crate::config::Settings;
use crate::snapshot::DATABASE_NAME;
use crate::store::database::look::{Look, look};

const START: &str = "start it, `systemctl start nexuserofs-snapshotter`; its log, `journalctl --unit \
                     nexuserofs-snapshotter`, says why if it ends again";

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let address = settings.address.display();
    let connection = match Connection::open(&settings.address) {
        Ok(connection) => connection,
        Err(Error::Connect { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            let advice = "run this as root";
            return vec![Area::Daemon.unknown("socket", format!("{address} is closed to this user"), advice)];
        }
        Err(error) => {
            let mut findings = vec![Area::Daemon.failure("socket", error, START)];
            findings.extend(database(settings));
            return findings;
        }
    };
    let process = connection.process().map_or_else(String::new, |pid| format!("process {pid} "));
    let mut findings = vec![Area::Daemon.ok("socket", format!("{process}listens at {address}"))];
    findings.extend(settings.profiles.keys().map(|profile| serves(&connection, profile.as_str())));
    findings.push(works_here(settings));
    findings
}

fn serves(connection: &Connection, profile: &str) -> Finding {
    const CHECK: &str = "profile";
    match connection.serves(profile) {
        Ok(true) => Area::Daemon.ok(CHECK, format!("{profile} is served")),
        Ok(false) => Area::Daemon.failure(
            CHECK,
            format!("{profile} is in the settings, and the daemon does not know it"),
            "restart the daemon: it reads its settings at the start",
        ),
        Err(error) => Area::Daemon.failure(CHECK, error, START),
    }
}

/// Whether the daemon that listens is the one whose data was looked at.
fn works_here(settings: &Settings) -> Finding {
    const CHECK: &str = "records";
    let root = &settings.root;
    match look(&root.as_path().join(DATABASE_NAME)) {
        Ok(Look::InUse) => Area::Daemon.ok(CHECK, format!("it has those in {root} open")),
        Ok(_) => Area::Daemon.failure(
            CHECK,
            format!("the daemon that listens does not work in {root}"),
            "name its settings with --config, or its root with --root; or restart it if they were changed",
        ),
        Err(error) => Area::Daemon.unknown(CHECK, error, "run this as root"),
    }
}

/// The records of a daemon that does not run.
fn database(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "records";
    let found = look(&settings.root.as_path().join(DATABASE_NAME));
    Some(match found {
        Ok(Look::Absent) => return None,
        Ok(Look::Closed { snapshots, layers }) => {
            Area::Daemon.ok(CHECK, format!("{snapshots} snapshots and {layers} layers"))
        }
        Ok(Look::Unclean) => Area::Daemon
            .ok(CHECK, "left open by a daemon that was killed; the next start checks and repairs them"),
        Ok(Look::InUse) => Area::Daemon.failure(
            CHECK,
            format!("a process has those in {} open and listens somewhere else", settings.root),
            "name its socket with --address or its settings with --config, or end it",
        ),
        Err(error) => Area::Daemon.failure(
            CHECK,
            error,
            "a start moves a damaged database aside and collects the records anew from the files",
        ),
    })
}
