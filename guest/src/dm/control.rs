//! Devices made, found, asked and removed.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::crypt;
use super::ioctl::{Command, call};
use super::message::{Flags, Message, Target, Version};
use super::{Error, Key, Name};
use crate::verity::{DeviceNumber, Parameters};

/// The targets that this crate makes devices of.
const VERITY: &str = "verity";
const CRYPT: &str = "crypt";

const CONTROL: &str = "/dev/mapper/control";

/// The kernel's device-mapper.
#[derive(Debug)]
pub struct DeviceMapper {
    control: File,
}

/// A device that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub number: DeviceNumber,
}

impl Device {
    /// Its node as devtmpfs makes it, such as `/dev/dm-0`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.number.minor))
    }
}

/// The table of a verity device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Length in sectors of 512 bytes.
    pub sectors: u64,
    /// The target's parameters, as [`Parameters::table_line`] gives them.
    pub line: String,
}

impl Table {
    /// The table of a device with these parameters, over the device of this number.
    #[must_use]
    pub fn of(parameters: &Parameters, over: DeviceNumber) -> Self {
        Self { sectors: parameters.data_sectors(), line: parameters.table_line(over) }
    }
}

/// What a verity device found so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Whatever was read was right.
    Valid,
    /// A block was not what its hash says.
    Corrupted,
}

impl DeviceMapper {
    /// Opens the kernel's device-mapper.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none, [`Error::Denied`] if we may not.
    pub fn open() -> Result<Self, Error> {
        match OpenOptions::new().read(true).write(true).open(CONTROL) {
            Ok(control) => Ok(Self { control }),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => Err(Error::Denied { source }),
            Err(source) => Err(Error::Missing { source }),
        }
    }

    /// The version of the target `verity`, if it is loaded or built in. Making a device loads it.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn verity_version(&self) -> Result<Option<Version>, Error> {
        self.version(VERITY)
    }

    fn version(&self, target: &str) -> Result<Option<Version>, Error> {
        let mut message = Message::default();
        call(&self.control, Command::ListVersions, &mut message)
            .map_err(|errno| Error::Targets { source: errno.into() })?;
        if !message.is_whole() {
            return Err(Error::Answer { operation: "DM_LIST_VERSIONS", reason: "it is longer than 16 KiB" });
        }
        Ok(message.version_of(target))
    }

    /// Makes a read-only device that shows the data on the device `over` as far as it has these
    /// parameters. It is there and usable when this returns, or not there at all.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; [`Error::NoVerity`]; if the device `over` is too small for the parameters, or
    /// is in use, or the kernel refuses for another reason.
    pub fn create_verity(
        &self,
        name: &Name,
        parameters: &Parameters,
        over: DeviceNumber,
    ) -> Result<Device, Error> {
        let table = Table::of(parameters, over);
        let message = Message::about(name, Flags::READ_ONLY).with_target(VERITY, table.sectors, &table.line);
        self.make(name, VERITY, Flags::READ_ONLY, message)
    }

    /// Makes a writable device of `bytes` bytes, rounded down to whole blocks of 4096, on the device `over`, whose
    /// content is what is written here, encrypted with `key`. The kernel forgets the key with the device.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; [`Error::NoCrypt`]; if the device `over` is too small or in use, or the kernel
    /// refuses for another reason, such as a missing cipher.
    pub fn create_crypt(
        &self,
        name: &Name,
        key: &Key,
        over: DeviceNumber,
        bytes: u64,
    ) -> Result<Device, Error> {
        let message = Message::about(name, Flags::SECURE).with_target(
            CRYPT,
            crypt::sectors(bytes),
            &key.table_line(over),
        );
        self.make(name, CRYPT, Flags::NONE, message)
    }

    /// The device of this name, if there is one.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn find(&self, name: &Name) -> Result<Option<Device>, Error> {
        let status = self.ask("look at", Command::Status, Message::about(name, Flags::NONE), name);
        Ok(if_there(status)?.map(|answer| Device { number: answer.device() }))
    }

    /// The table of a verity device. None if there is no device of this name, or it is no verity device.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn table(&self, name: &Name) -> Result<Option<Table>, Error> {
        let target = self.target(name, Flags::TABLE)?;
        Ok(target.map(|target| Table { sectors: target.sectors, line: target.text.trim_end().to_owned() }))
    }

    /// What a verity device found so far. None if there is no device of this name, or it is no verity device.
    ///
    /// # Errors
    /// If the kernel does not say, or says neither `V` nor `C`.
    pub fn state(&self, name: &Name) -> Result<Option<State>, Error> {
        let Some(target) = self.target(name, Flags::NONE)? else { return Ok(None) };
        match target.text.split_whitespace().next() {
            Some("V") => Ok(Some(State::Valid)),
            Some("C") => Ok(Some(State::Corrupted)),
            _ => Err(Error::Answer { operation: "DM_TABLE_STATUS", reason: "it is neither V nor C" }),
        }
    }

    /// Removes a device: now, or when the last who uses it lets go of it. One that is not there is
    /// removed already.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove(&self, name: &Name) -> Result<(), Error> {
        let message = Message::about(name, Flags::DEFERRED);
        if_there(self.ask("remove", Command::Remove, message, name)).map(drop)
    }

    /// Makes a device with the one target `kind`, whose table is in `table` unless it was too long.
    fn make(
        &self,
        name: &Name,
        kind: &'static str,
        access: Flags,
        table: Option<Box<Message>>,
    ) -> Result<Device, Error> {
        let too_long =
            Error::Answer { operation: "DM_TABLE_LOAD", reason: "the table is longer than 16 KiB" };
        let table = table.ok_or(too_long)?;
        self.create(name, access)?;
        self.load(name, kind, table).and_then(|()| self.resume(name)).inspect_err(|_| {
            // It has no user, so it goes at once. The error that is told is the first.
            let _ = self.remove(name);
        })
    }

    fn create(&self, name: &Name, access: Flags) -> Result<(), Error> {
        let message = Message::about(name, access);
        match self.ask("create", Command::Create, message, name) {
            Err(Error::Refused { source, .. }) if Errno::from_io_error(&source) == Some(Errno::BUSY) => {
                Err(Error::NameTaken { name: name.clone() })
            }
            result => result.map(drop),
        }
    }

    fn load(&self, name: &Name, kind: &'static str, table: Box<Message>) -> Result<(), Error> {
        match self.ask("load the table of", Command::Load, table, name) {
            // The same error for an unknown target and for parameters that do not fit the device.
            Err(error) if self.version(kind)?.is_some() => Err(error),
            Err(_) if kind == CRYPT => Err(Error::NoCrypt),
            Err(_) => Err(Error::NoVerity),
            Ok(_) => Ok(()),
        }
    }

    fn resume(&self, name: &Name) -> Result<Device, Error> {
        let answer = self.ask("start", Command::Suspend, Message::about(name, Flags::NONE), name)?;
        Ok(Device { number: answer.device() })
    }

    /// The one target of a device, with its parameters or its status.
    fn target(&self, name: &Name, what: Flags) -> Result<Option<Target>, Error> {
        let message = Message::about(name, what | Flags::NO_FLUSH);
        let answer = if_there(self.ask("look at", Command::TableStatus, message, name))?;
        Ok(answer.and_then(|answer| answer.target()).filter(|target| target.kind == VERITY))
    }

    fn ask(
        &self,
        operation: &'static str,
        command: Command,
        mut message: Box<Message>,
        name: &Name,
    ) -> Result<Box<Message>, Error> {
        match call(&self.control, command, &mut message) {
            Ok(()) => Ok(message),
            Err(errno) => Err(Error::Refused { operation, name: name.clone(), source: errno.into() }),
        }
    }
}

/// None if the device is not there.
fn if_there(answer: Result<Box<Message>, Error>) -> Result<Option<Box<Message>>, Error> {
    match answer {
        Err(Error::Refused { source, .. }) if Errno::from_io_error(&source) == Some(Errno::NXIO) => Ok(None),
        answer => answer.map(Some),
    }
}
