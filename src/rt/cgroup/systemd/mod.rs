//! Cgroups by systemd's hands (`--systemd-cgroup`): it makes the container's as a unit, keeps its
//! limits, and takes it away. Pure are [`unit`] (where to), [`properties`], [`devices`] and
//! [`annotation`] (what it is told), and [`address`]; [`bus`] and [`wire`] are the way there.
//!
//! Nothing is opened before [`Manager::connect`]. What systemd has no property for is the business
//! of [`super::v2`] and [`super::v1`], whose files the unit is made with.

mod address;
mod annotation;
mod bus;
mod devices;
mod properties;
mod unit;
mod wire;

use anyhow::{Result, anyhow, bail};

use address::{Address, addresses};
use bus::{Bus, Error, LIMIT};
pub use properties::{Property, changes, properties};
pub use unit::Unit;
use wire::{Call, Message, NO_REPLY, Value};

/// The manager's name, object and interface on the bus.
const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// Errors of systemd's own, after [`NAME`].
const EXISTS: &str = "UnitExists";
/// See [`EXISTS`].
const MISSING: &str = "NoSuchUnit";

/// A connection to a systemd: the machine's, or a user's.
pub struct Manager {
    bus: Bus,
    user: bool,
    /// Its version, such as 252.
    pub version: u32,
}

impl Manager {
    /// Connects to the system's manager, or to that of this user.
    pub fn connect(user: bool) -> Result<Manager> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Manager::connect_to_first(&addresses(user, variable), user)
    }

    fn connect_to_first(addresses: &[Address], user: bool) -> Result<Manager> {
        let mut failures = Vec::new();
        for address in addresses {
            match Manager::connect_to(address, user) {
                Ok(manager) => return Ok(manager),
                Err(error) => failures.push(error.to_string()),
            }
        }
        let whose = if user { "this user's systemd" } else { "systemd" };
        let hint = match (user, failures.is_empty()) {
            (false, _) => "",
            (true, false) => "; `loginctl enable-linger` starts it",
            (true, true) => "; XDG_RUNTIME_DIR says where it is",
        };
        if failures.is_empty() {
            failures.push("no address".to_owned());
        }
        bail!("no connection to {whose} ({}){hint}", failures.join("; "))
    }

    fn connect_to(address: &Address, user: bool) -> Result<Manager> {
        let mut manager = Manager { bus: Bus::open(address)?, user, version: 0 };
        // A bus may be without a systemd: one that was started for a program, or in a container.
        let text = manager.property("Version").map_err(|error| anyhow!("{address}: {error}"))?;
        manager.version = version(&text);
        Ok(manager)
    }

    /// Whether it is a user's, not the machine's.
    pub fn is_user(&self) -> bool {
        self.user
    }

    /// The cgroup that [`Unit::path`] is below, in systemd's eyes: empty for a machine's own, else
    /// such as `/user.slice/user-1000.slice/user@1000.service`.
    pub fn control_group(&mut self) -> Result<String> {
        self.bus.set_limit(LIMIT);
        let group = self.property("ControlGroup")?;
        Ok(group.trim_end_matches('/').to_owned())
    }

    /// Makes the unit, with the process in it, and waits until systemd has done so.
    ///
    /// Systemd puts no process into a slice: there the caller moves it.
    pub fn start(&mut self, unit: &Unit, description: &str, pid: i32, properties: &[Property]) -> Result<()> {
        self.bus.set_limit(LIMIT);
        self.expect_jobs()?;
        let mut list = base(unit, description, pid, self.version);
        list.extend_from_slice(properties);
        let body = |entries| {
            let others = Value::Array("(sa(sv))".to_owned(), Vec::new());
            vec![unit.name.as_str().into(), "replace".into(), entries, others]
        };
        let mut reply = self.call_with("StartTransientUnit", &mut list, body);
        if reply.as_ref().is_err_and(|error| is(error, EXISTS)) {
            // A failed one stays until somebody has looked at it.
            self.reset_failed(unit)?;
            reply = self.call_with("StartTransientUnit", &mut list, body);
        }
        let reply = reply.map_err(|error| {
            if !is(&error, EXISTS) {
                return refused(error, "make", unit, &list);
            }
            let (name, flag) = (&unit.name, self.flag());
            anyhow!(
                "/linux/cgroupsPath: systemd has a unit {name} already; choose another name, or end it: systemctl {flag}stop {name}"
            )
        })?;
        self.finish(&reply, unit, "start").inspect_err(|_| drop(self.reset_failed(unit)))
    }

    /// Changes limits of the unit, for as long as it lives.
    pub fn set(&mut self, unit: &Unit, properties: &[Property]) -> Result<()> {
        self.bus.set_limit(LIMIT);
        let mut list = properties.to_vec();
        if list.is_empty() {
            return Ok(());
        }
        let body = |entries| vec![unit.name.as_str().into(), Value::Bool(true), entries];
        self.call_with("SetUnitProperties", &mut list, body).map_err(|error| refused(error, "change", unit, &list))?;
        Ok(())
    }

    /// Moves a process into the unit, to `below` its cgroup (`/` is the unit's own): for one that
    /// this user owns, but not the cgroup that it comes from.
    pub fn attach(&mut self, unit: &Unit, below: &str, pid: i32) -> Result<()> {
        self.bus.set_limit(LIMIT);
        let pids = Value::Array("u".to_owned(), vec![Value::Uint32(pid as u32)]);
        self.call("AttachProcessesToUnit", &[unit.name.as_str().into(), below.into(), pids])
            .map(drop)
            .map_err(|error| refused(error, "move a process into", unit, &[]))
    }

    /// Ends the unit, with all that still runs in it, and waits until it has ended. One that is
    /// gone is no error.
    pub fn stop(&mut self, unit: &Unit) -> Result<()> {
        self.bus.set_limit(LIMIT);
        self.expect_jobs()?;
        match self.call("StopUnit", &[unit.name.as_str().into(), "replace".into()]) {
            Ok(reply) => self.finish(&reply, unit, "stop")?,
            Err(error) if is(&error, MISSING) => return Ok(()),
            Err(error) => return Err(refused(error, "stop", unit, &[])),
        }
        self.reset_failed(unit)
    }

    /// Has systemd forget a unit that failed. One that it does not know is no error.
    fn reset_failed(&mut self, unit: &Unit) -> Result<()> {
        match self.call("ResetFailedUnit", &[unit.name.as_str().into()]) {
            Err(Error::Lost(error)) => Err(error),
            Ok(_) | Err(Error::Refused { .. }) => Ok(()),
        }
    }

    /// Asks to be told of the ends of jobs, before there is one. Systemd's own socket tells of all
    /// without being asked.
    fn expect_jobs(&mut self) -> Result<()> {
        if self.bus.has_broker() {
            let rule =
                format!("type='signal',sender='{NAME}',path='{PATH}',interface='{INTERFACE}',member='{}'", bus::WANTED);
            self.bus.call_broker("AddMatch", &[rule.as_str().into()])?;
            // Whoever has a job is told of its end anyhow, so far.
            self.bus.post(Call { flags: NO_REPLY, ..self.to_call("Subscribe", &[]) })?;
        }
        Ok(())
    }

    /// Waits for the end of the job that `reply` names.
    fn finish(&mut self, reply: &Message, unit: &Unit, verb: &str) -> Result<()> {
        let job = reply.text().ok_or_else(|| anyhow!("systemd gave no job for {}", unit.name))?;
        let ended = self.bus.wait_for(|signal| {
            // Anybody may send a signal of this name; who sent it only the broker says.
            let genuine = signal.sender == reply.sender && signal.interface == INTERFACE && signal.signature == "uoss";
            let mut reader = signal.reader();
            let (_, path, _, result) = (reader.u32()?, reader.string()?, reader.string()?, reader.string()?);
            (genuine && path == job).then(|| result.to_owned())
        });
        let result = ended.map_err(|error| refused(Error::Lost(error), verb, unit, &[]))?;
        // What is to be stopped may have ended by itself.
        if result == "done" || (verb == "stop" && result == "skipped") {
            return Ok(());
        }
        let (name, flag) = (&unit.name, self.flag());
        bail!("systemd could not {verb} {name}: {result}; see: journalctl {flag}--unit {name}")
    }

    /// Calls a method that takes properties. One that systemd does not know is left out, if it may
    /// be.
    fn call_with(
        &mut self,
        member: &str,
        list: &mut Vec<Property>,
        body: impl Fn(Value) -> Vec<Value>,
    ) -> Result<Message, Error> {
        loop {
            let entry = |property: &Property| {
                Value::Struct(vec![property.name.as_str().into(), property.value.clone().boxed()])
            };
            let entries = Value::Array("(sv)".to_owned(), list.iter().map(entry).collect());
            let error = match self.call(member, &body(entries)) {
                Err(error) => error,
                reply => return reply,
            };
            let unknown = list.iter().position(|property| is_unknown(&error, property)).filter(|at| list[*at].optional);
            let Some(at) = unknown else { return Err(error) };
            tracing::info!("systemd {} has no property {}", self.version, list.remove(at).name);
        }
    }

    /// A property of the manager itself.
    fn property(&mut self, name: &str) -> Result<String> {
        let body = [INTERFACE.into(), name.into()];
        let call = Call { interface: "org.freedesktop.DBus.Properties", ..self.to_call("Get", &body) };
        let reply = self.bus.call(call)?;
        reply.text().map(str::to_owned).ok_or_else(|| anyhow!("systemd's {name} is no text"))
    }

    /// What its commands need to mean this manager.
    fn flag(&self) -> &'static str {
        if self.user { "--user " } else { "" }
    }

    fn call(&mut self, member: &str, body: &[Value]) -> Result<Message, Error> {
        self.bus.call(self.to_call(member, body))
    }

    /// A call of a method of the manager's.
    fn to_call<'a>(&self, member: &'a str, body: &'a [Value]) -> Call<'a> {
        let destination = self.bus.has_broker().then_some(NAME);
        Call { destination, path: PATH, interface: INTERFACE, member, body, flags: 0 }
    }
}

/// 252 from `252.38-1~deb12u1`, 245 from `v245.4`.
fn version(text: &str) -> u32 {
    let text = text.trim_start_matches('v');
    text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())].parse().unwrap_or(0)
}

/// What every container's unit is.
fn base(unit: &Unit, description: &str, pid: i32, version: u32) -> Vec<Property> {
    let property = |name: &str, value, pointer: &str, optional| Property {
        name: name.to_owned(),
        value,
        pointer: pointer.to_owned(),
        optional,
    };
    // The bus ends texts with a NUL.
    let mut list = vec![property("Description", Value::String(description.replace('\0', " ")), "", true)];
    let place = "/linux/cgroupsPath";
    if unit.is_slice() {
        list.push(property("Wants", Value::strings(&[&unit.slice]), place, false));
    } else {
        list.push(property("Slice", unit.slice.as_str().into(), place, false));
        list.push(property("PIDs", Value::Array("u".to_owned(), vec![Value::Uint32(pid as u32)]), "", false));
        // What is below the unit's cgroup is the container's, with every controller there is.
        list.push(property("Delegate", Value::Bool(true), "", false));
    }
    // Ended by the engine, not by the machine's shutdown before the engine.
    list.push(property("DefaultDependencies", Value::Bool(false), "", false));
    if version >= 236 {
        // Nobody asks systemd how a container ended.
        list.push(property("CollectMode", "inactive-or-failed".into(), "", true));
    }
    for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        list.push(property(accounting, Value::Bool(true), "", true));
    }
    list
}

/// Whether the error says that systemd has no such property.
fn is_unknown(error: &Error, property: &Property) -> bool {
    let Error::Refused { name, text } = error else { return false };
    let said = text.strip_prefix("Cannot set property ").and_then(|rest| rest.split(',').next());
    name == "org.freedesktop.DBus.Error.PropertyReadOnly" && said == Some(property.name.as_str())
}

/// Whether systemd said no with this error of its own.
fn is(error: &Error, kind: &str) -> bool {
    matches!(error, Error::Refused { name, .. } if name.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('.')) == Some(kind))
}

/// One line about a call that failed, with the place in the document if one of its properties was
/// why.
fn refused(error: Error, verb: &str, unit: &Unit, properties: &[Property]) -> anyhow::Error {
    let (name, text) = match error {
        Error::Lost(error) => return error.context(format!("having systemd {verb} {}", unit.name)),
        Error::Refused { name, text } => (name, text),
    };
    // Systemd names the property in some sentence.
    let named = |property: &&Property| text.split(|c: char| !c.is_ascii_alphabetic()).any(|word| word == property.name);
    let pointer = properties.iter().filter(|property| !property.pointer.is_empty()).find(named);
    let pointer = pointer.map(|property| format!("{}: ", property.pointer)).unwrap_or_default();
    let hint = match name.as_str() {
        // A value of another type: systemd does not say which, and ours are right.
        "System.Error.ENXIO" => "; an annotation org.systemd.property.… has a value of another type than its property",
        "org.freedesktop.DBus.Error.AccessDenied" | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => {
            "; only root may, other users have a systemd of their own"
        }
        _ => "",
    };
    anyhow!("{pointer}systemd refused to {verb} {}: {text} ({name}){hint}", unit.name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::bus::tests::{accept, listen, next_call};
    use super::wire::tests::message;
    use super::*;

    #[test]
    fn versions() {
        for (text, number) in [("252.38-1~deb12u1", 252), ("v245.4-1.fc32", 245), ("257", 257), ("", 0), ("x", 0)] {
            assert_eq!(version(text), number, "{text}");
        }
    }

    #[test]
    fn without_systemd_the_error_says_what_to_do() {
        let error = |user, list: &[Address]| Manager::connect_to_first(list, user).err().unwrap().to_string();
        let nowhere = Address { path: b"/nowhere".to_vec(), broker: false };
        assert_eq!(
            error(false, std::slice::from_ref(&nowhere)),
            "no connection to systemd (/nowhere: no such file or directory)"
        );
        assert!(error(true, &[nowhere]).contains("`loginctl enable-linger` starts it"));
        assert!(error(true, &[]).ends_with("(no address); XDG_RUNTIME_DIR says where it is"));
    }

    /// What a played systemd does with one call.
    enum Answer {
        Reply(Value),
        Refuse(&'static str, &'static str),
        /// Names the job and says how it ended.
        Job(&'static str),
        /// The same, but before that somebody else says that it was done.
        Forged(&'static str),
        HangUp,
    }

    /// The calls that a played systemd got: method and bytes of each.
    type Calls = Vec<(String, Vec<u8>)>;

    /// Plays a systemd that answers calls in this order, after the one for its version.
    fn play(answers: Vec<Answer>) -> (Manager, std::thread::JoinHandle<Calls>) {
        let (address, server) = listen(|stream| {
            accept(&stream);
            let mut calls = Vec::new();
            let version = Answer::Reply(Value::from("252.1").boxed());
            for answer in std::iter::once(version).chain(answers) {
                let (serial, bytes) = next_call(&stream).unwrap();
                calls.push((Message::parse(&bytes).unwrap().member, bytes));
                let answered = (5, Value::Uint32(serial));
                let sender = |name: &str| (7, Value::from(name));
                let path = Value::Path(format!("/job/{serial}"));
                let job = |from: &str, result: &str| {
                    let fields = [(2, INTERFACE.into()), (3, "JobRemoved".into()), sender(from)];
                    message(wire::SIGNAL, &fields, &[Value::Uint32(1), path.clone(), "u".into(), result.into()])
                };
                let bytes = match answer {
                    Answer::Reply(value) => message(wire::REPLY, &[answered], &[value]),
                    Answer::Refuse(name, text) => message(wire::ERROR, &[answered, (4, name.into())], &[text.into()]),
                    Answer::Job(result) => {
                        // The end of the job may be told before its name.
                        let mut bytes = job(":1.0", result);
                        bytes.extend(message(wire::REPLY, &[answered, sender(":1.0")], std::slice::from_ref(&path)));
                        bytes
                    }
                    Answer::Forged(result) => {
                        let mut bytes = message(wire::REPLY, &[answered, sender(":1.0")], std::slice::from_ref(&path));
                        bytes.extend(job(":1.66", "done"));
                        bytes.extend(job(":1.0", result));
                        bytes
                    }
                    Answer::HangUp => return calls,
                };
                (&stream).write_all(&bytes).unwrap();
            }
            assert!(next_call(&stream).is_none(), "a call too many");
            calls
        });
        (Manager::connect_to(&address, false).unwrap(), server)
    }

    const EXISTS: Answer = Answer::Refuse("org.freedesktop.systemd1.UnitExists", "Unit u was already loaded.");
    const MISSING: Answer = Answer::Refuse("org.freedesktop.systemd1.NoSuchUnit", "Unit u not loaded.");

    fn unit() -> Unit {
        Unit::parse("system.slice:rt:u", "u", false).unwrap()
    }

    fn limit(name: &str, optional: bool) -> Property {
        Property { name: name.to_owned(), value: Value::Uint64(5), pointer: format!("/x/{name}"), optional }
    }

    /// Starts against a played systemd: the methods that were called, and the error.
    fn start(answers: Vec<Answer>) -> (Vec<String>, String) {
        let (mut manager, server) = play(answers);
        let result = manager.start(&unit(), "d", 7, &[limit("MemoryMax", true), limit("Mine", false)]);
        drop(manager);
        let methods = server.join().unwrap().into_iter().map(|(method, _)| method).skip(1).collect();
        (methods, result.err().map(|error| format!("{error:#}")).unwrap_or_default())
    }

    #[test]
    fn a_unit_is_started_once_its_job_is_done() {
        assert_eq!(start(vec![Answer::Job("done")]), (vec!["StartTransientUnit".to_owned()], String::new()));
        let (methods, error) = start(vec![Answer::Job("failed"), Answer::Reply(Value::Bool(true))]);
        assert_eq!(methods, ["StartTransientUnit", "ResetFailedUnit"]);
        assert_eq!(error, "systemd could not start rt-u.scope: failed; see: journalctl --unit rt-u.scope");
        // Who is not systemd cannot say that it is done.
        let (_, error) = start(vec![Answer::Forged("canceled"), MISSING]);
        assert!(error.contains("canceled"), "{error}");
    }

    #[test]
    fn a_failed_unit_makes_room_and_a_running_one_does_not() {
        let reset = || Answer::Reply(Value::Bool(true));
        let (methods, error) = start(vec![EXISTS, reset(), Answer::Job("done")]);
        assert_eq!((methods.len(), error.as_str()), (3, ""));
        let (methods, error) = start(vec![EXISTS, reset(), EXISTS]);
        assert_eq!(methods, ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
        assert_eq!(
            error,
            "/linux/cgroupsPath: systemd has a unit rt-u.scope already; choose another name, or end it: systemctl stop rt-u.scope"
        );
    }

    #[test]
    fn a_property_that_systemd_lacks_is_left_out_if_it_may() {
        const READ_ONLY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";
        let (methods, error) = start(vec![
            Answer::Refuse(READ_ONLY, "Cannot set property MemoryMax, or unknown property."),
            Answer::Refuse(READ_ONLY, "Cannot set property CollectMode, or unknown property."),
            Answer::Job("done"),
        ]);
        assert_eq!((methods.len(), error.as_str()), (3, ""));
        let (_, error) = start(vec![Answer::Refuse(READ_ONLY, "Cannot set property Mine, or unknown property.")]);
        assert_eq!(
            error,
            "/x/Mine: systemd refused to make rt-u.scope: Cannot set property Mine, or unknown property. (org.freedesktop.DBus.Error.PropertyReadOnly)"
        );
        let (_, error) = start(vec![Answer::Refuse("x.y", "Value of MemoryMax= is out of range")]);
        assert!(error.starts_with("/x/MemoryMax: systemd refused"), "{error}");
    }

    #[test]
    fn a_systemd_that_goes_away_is_an_error() {
        let (_, error) = start(vec![Answer::HangUp]);
        assert!(
            error.contains("having systemd make rt-u.scope: ") && error.ends_with("the connection was closed"),
            "{error}"
        );
    }

    #[test]
    fn stopping_what_is_gone_is_no_error() {
        let stop = |answers| {
            let (mut manager, server) = play(answers);
            let result = manager.stop(&unit()).map_err(|error| error.to_string());
            drop(manager);
            (server.join().unwrap().len() - 1, result)
        };
        assert_eq!(stop(vec![MISSING]), (1, Ok(())));
        assert_eq!(stop(vec![Answer::Job("done"), MISSING]), (2, Ok(())));
        assert!(stop(vec![Answer::Job("timeout")]).1.unwrap_err().contains("could not stop rt-u.scope: timeout"));
        let denied = Answer::Refuse("org.freedesktop.DBus.Error.AccessDenied", "Permission denied");
        assert!(
            stop(vec![denied]).1.unwrap_err().ends_with("; only root may, other users have a systemd of their own")
        );
    }

    #[test]
    fn limits_are_changed_in_one_call() {
        let (mut manager, server) = play(vec![Answer::Reply(Value::Bool(true))]);
        manager.set(&unit(), &[limit("MemoryMax", true)]).unwrap();
        manager.set(&unit(), &[]).unwrap();
        drop(manager);
        let calls = server.join().unwrap();
        assert_eq!(calls[1].0, "SetUnitProperties");
        let bytes = &calls[1].1;
        assert!(bytes.windows(9).any(|bytes| bytes == b"MemoryMax"));
    }

    #[test]
    fn what_a_unit_is_told() {
        let names = |path: &str, version| {
            let unit = Unit::parse(path, "u", false).unwrap();
            base(&unit, "a\0b", 7, version).into_iter().map(|property| property.name).collect::<Vec<_>>().join(" ")
        };
        let common = "DefaultDependencies CollectMode MemoryAccounting CPUAccounting IOAccounting TasksAccounting";
        assert_eq!(names("", 252), format!("Description Slice PIDs Delegate {common}"));
        assert_eq!(names("a.slice:p:b.slice", 252), format!("Description Wants {common}"));
        assert!(!names("", 235).contains("CollectMode"));
    }
}
