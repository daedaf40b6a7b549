//! The processes of a container as `ps` shows them, by /proc alone: no program is asked, neither the host's nor the
//! container's.

use anyhow::{Result, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::stats::processes;

/// The kernel counts the time of processes in these for /proc, on every machine that it runs on.
const TICKS: u64 = 100;

/// What can be shown of a process: the word to ask for it, the heading, and how it is found.
struct Column {
    word: &'static str,
    heading: &'static str,
    of: fn(&Process, &Host) -> String,
}

const fn column(word: &'static str, heading: &'static str, of: fn(&Process, &Host) -> String) -> Column {
    Column { word, heading, of }
}

const COLUMNS: [Column; 21] = [
    column("user", "USER", |it, host| host.user(it.uid)),
    column("uid", "UID", |it, _| it.uid.to_string()),
    column("pid", "PID", |it, _| it.pid.to_string()),
    column("nspid", "NSPID", |it, _| it.inner_pid.to_string()),
    column("ppid", "PPID", |it, _| it.field(4).to_string()),
    column("pgid", "PGID", |it, _| it.field(5).to_string()),
    column("sid", "SID", |it, _| it.field(6).to_string()),
    column("stat", "STAT", |it, _| it.stat.first().cloned().unwrap_or_default()),
    column("nlwp", "NLWP", |it, _| it.field(20).to_string()),
    column("ni", "NI", |it, _| it.field(19).to_string()),
    column("pri", "PRI", |it, _| it.field(18).to_string()),
    column("c", "C", |it, host| it.processor_share(host).to_string()),
    column("rss", "RSS", |it, _| (it.field(24) * rustix::param::page_size() as i64 / 1024).to_string()),
    column("vsz", "VSZ", |it, _| (it.field(23) / 1024).to_string()),
    column("stime", "STIME", |it, host| host.clock(it.began(host))),
    column("etime", "ELAPSED", |it, host| span(it.age(host))),
    column("tty", "TTY", |it, _| terminal(it.field(7))),
    column("time", "TIME", |it, _| hours(it.processor_time())),
    column("comm", "COMMAND", |it, _| it.name.clone()),
    column("cmd", "CMD", |it, _| it.command.clone()),
    column("args", "COMMAND", |it, _| it.command.clone()),
];

/// What `ps -ef` shows, as Docker has it.
const USUAL: &str = "user,pid,ppid,c,stime,tty,time,cmd";

/// Which columns to show: the words behind the container's name.
pub struct Chosen(Vec<&'static Column>);

impl Chosen {
    /// From `-o LIST` or the list alone; `-ef` and `aux` are what `ps` means by them.
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut list = String::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let part = match word.as_str() {
                "-ef" | "-e" | "-f" => USUAL,
                "aux" | "-aux" => "user,pid,c,vsz,rss,tty,stat,stime,time,args",
                "-o" | "-eo" => match words.next() {
                    Some(list) => list,
                    None => bail!("{word}: a list of columns is missing, such as pid,user,cmd"),
                },
                word => word.strip_prefix("-o").unwrap_or(word),
            };
            list = if list.is_empty() { part.to_owned() } else { format!("{list},{part}") };
        }
        let list = if list.is_empty() { USUAL } else { &list };
        let mut chosen = Vec::new();
        for word in list.split([',', ' ']).filter(|it| !it.is_empty()) {
            let Some(column) = COLUMNS.iter().find(|it| it.word == word) else {
                let known: Vec<&str> = COLUMNS.iter().map(|it| it.word).collect();
                bail!("{word:?} is no column; known are {}", known.join(", "));
            };
            chosen.push(column);
        }
        Ok(Self(chosen))
    }

    /// The headings.
    pub fn headings(&self) -> Vec<&'static str> {
        self.0.iter().map(|it| it.heading).collect()
    }

    /// A line for each process of the container whose first one this is, by their numbers.
    pub fn lines(&self, pid: i32, id: &str) -> Vec<Vec<String>> {
        let host = Host::look();
        let mut pids = processes(pid, id);
        pids.sort_unstable();
        let all = pids.into_iter().filter_map(Process::read);
        all.map(|process| self.0.iter().map(|it| (it.of)(&process, &host)).collect()).collect()
    }
}

/// A process, as /proc has it (proc(5)).
struct Process {
    pid: i32,
    /// Its number in its own pid namespace.
    inner_pid: i32,
    uid: u32,
    name: String,
    command: String,
    /// The fields of /proc/PID/stat from the third on.
    stat: Vec<String>,
}

impl Process {
    /// `None` when it has gone.
    fn read(pid: i32) -> Option<Self> {
        let file = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
        Self::parse(pid, &file("stat")?, &file("status")?, &file("cmdline")?)
    }

    fn parse(pid: i32, stat: &[u8], status: &[u8], command: &[u8]) -> Option<Self> {
        // The name may hold anything, also parentheses and spaces.
        let begin = stat.iter().position(|&byte| byte == b'(')? + 1;
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let name = printable(stat.get(begin..end)?);
        let stat = std::str::from_utf8(stat.get(end + 2..)?).ok()?.split_whitespace().map(str::to_owned).collect();
        let status = String::from_utf8_lossy(status);
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let uid = line("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
        let inner_pid = line("NSpid:").and_then(|it| it.split_whitespace().last()?.parse().ok()).unwrap_or(pid);
        let command = command.strip_suffix(b"\0").unwrap_or(command);
        let words: Vec<String> = command.split(|&byte| byte == 0).map(printable).collect();
        // A kernel thread, a zombie, or one that has hidden its arguments.
        let command = if command.is_empty() { format!("[{name}]") } else { words.join(" ") };
        Some(Self { pid, inner_pid, uid, name, command, stat })
    }

    /// A field of /proc/PID/stat by its number in proc(5).
    fn field(&self, number: usize) -> i64 {
        self.stat.get(number - 3).and_then(|it| it.parse().ok()).unwrap_or(0)
    }

    /// Seconds.
    fn processor_time(&self) -> u64 {
        (self.field(14) + self.field(15)).max(0) as u64 / TICKS
    }

    /// Seconds since it began.
    fn age(&self, host: &Host) -> u64 {
        host.uptime.saturating_sub(self.field(22).max(0) as u64 / TICKS)
    }

    /// Seconds since 1970.
    fn began(&self, host: &Host) -> i64 {
        host.booted + self.field(22) / TICKS as i64
    }

    fn processor_share(&self, host: &Host) -> u64 {
        (self.processor_time() * 100).checked_div(self.age(host)).unwrap_or(0).min(99)
    }
}

/// What a terminal shows and does not obey.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|it| if it.is_control() { '?' } else { it }).collect()
}

/// What is the same for all.
struct Host {
    /// Seconds since the machine's start.
    uptime: u64,
    /// When that was, in seconds since 1970.
    booted: i64,
    now: Timestamp,
    passwd: String,
}

impl Host {
    fn look() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let uptime = read("/proc/uptime").split('.').next().and_then(|it| it.parse().ok()).unwrap_or(0);
        let booted = read("/proc/stat").lines().find_map(|it| it.strip_prefix("btime ")?.parse().ok()).unwrap_or(0);
        Self { uptime, booted, now: Timestamp::now(), passwd: read("/etc/passwd") }
    }

    fn user(&self, uid: u32) -> String {
        let uid = uid.to_string();
        let name = self.passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        });
        name.unwrap_or(uid)
    }

    /// The time of day, or the day where it was another.
    fn clock(&self, seconds: i64) -> String {
        let zone = TimeZone::system();
        let then = Timestamp::from_second(seconds).unwrap_or_default().to_zoned(zone.clone());
        let today = self.now.to_zoned(zone).date();
        let form = match then.date() {
            date if date == today => "%H:%M",
            date if date.year() == today.year() => "%b%d",
            _ => "%Y",
        };
        then.strftime(form).to_string()
    }
}

fn terminal(device: i64) -> String {
    // The minor number is in two parts (makedev(3)).
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match (major, minor) {
        (0, 0) => "?".to_owned(),
        (4, minor) => format!("tty{minor}"),
        (5, 1) => "console".to_owned(),
        (136..=143, minor) => format!("pts/{}", (major - 136) * 256 + minor),
        (major, minor) => format!("{major}:{minor}"),
    }
}

fn hours(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `[[DAYS-]HOURS:]MINUTES:SECONDS`
fn span(seconds: u64) -> String {
    match seconds {
        0..3600 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        3600..86400 => hours(seconds),
        _ => format!("{}-{}", seconds / 86400, hours(seconds % 86400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_as_proc_has_it() {
        let stat =
            b"4242 (a) (b\x1b[2J) S 1 4242 4240 34816 4242 4194560 100 0 0 0 350 50 0 0 20 0 3 0 5000 10485760 256 1 2";
        let status = b"Name:\tx\nUid:\t1000\t33\t1000\t1000\nNSpid:\t4242\t7\n";
        let it = Process::parse(4242, stat, status, b"sh\0-c\0two words\0").unwrap();
        let host = Host {
            uptime: 250,
            booted: 1_000_000,
            now: Timestamp::from_second(1_000_060).unwrap(),
            passwd: "root:x:0:0::/:\nwww:x:33:33::/:\n".into(),
        };
        let shown = |word: &str| (COLUMNS.iter().find(|it| it.word == word).unwrap().of)(&it, &host);
        assert_eq!([shown("user"), shown("uid"), shown("pid"), shown("nspid")], ["www", "33", "4242", "7"]);
        assert_eq!([shown("ppid"), shown("stat"), shown("nlwp"), shown("tty")], ["1", "S", "3", "pts/0"]);
        // Four seconds of processor time in two hundred.
        assert_eq!([shown("time"), shown("etime"), shown("c"), shown("vsz")], ["00:00:04", "03:20", "2", "10240"]);
        assert_eq!([shown("comm"), shown("cmd")], ["a) (b?[2J", "sh -c two words"]);
        assert_eq!(Process::parse(1, stat, status, b"").unwrap().command, "[a) (b?[2J]");
        assert!(Process::parse(1, b"", b"", b"").is_none());
        assert_eq!(
            [terminal(0), terminal(0x8801), terminal(0x0401), terminal(0x0501)],
            ["?", "pts/1", "tty1", "console"]
        );
        assert_eq!(span(90_061), "1-01:01:01");
    }

    #[test]
    fn columns_are_chosen_as_for_ps() {
        let headings = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
            Chosen::parse(&words).map(|it| it.headings().join(" "))
        };
        assert_eq!(headings(&[]).unwrap(), "USER PID PPID C STIME TTY TIME CMD");
        assert_eq!(headings(&["-ef"]).unwrap(), headings(&[]).unwrap());
        assert_eq!(headings(&["-o", "pid,user"]).unwrap(), "PID USER");
        assert_eq!(headings(&["-opid,cmd"]).unwrap(), "PID CMD");
        assert_eq!(headings(&["pid", "etime"]).unwrap(), "PID ELAPSED");
        assert!(headings(&["aux"]).is_ok());
        for bad in [&["-o"][..], &["-o", "pid,x"], &["--forest"]] {
            assert!(headings(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_ourselves() {
        let us = std::process::id() as i32;
        let lines = Chosen::parse(&["pid,cmd".to_owned()]).unwrap().lines(us, "no such id");
        assert!(lines.iter().any(|it| it[0] == us.to_string()), "{lines:?}");
    }
}
