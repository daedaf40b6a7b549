//! Whether and when a container that has ended is started anew. Pure.

use std::time::Duration;

use crate::container::spec::Restart;

/// Who has run that long is taken to be well again.
const WELL: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);

/// How long to wait until the next start; `None` for no next start. `last` is what this function has said before, for
/// the run that has now ended.
pub fn delay(policy: Restart, status: i32, restarts: u32, ran: Duration, last: Option<Duration>) -> Option<Duration> {
    let again = match policy {
        Restart::No => false,
        Restart::OnFailure(most) => status != 0 && most.is_none_or(|most| restarts < most),
        Restart::Always | Restart::UnlessStopped => true,
    };
    let next = match last {
        Some(last) if ran < WELL => (last * 2).min(LONGEST),
        _ => FIRST,
    };
    again.then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let short = Duration::from_secs(1);
        let ask = |policy, status, restarts| delay(policy, status, restarts, short, None).is_some();
        assert!(!ask(Restart::No, 1, 0));
        assert!(!ask(Restart::OnFailure(None), 0, 0) && ask(Restart::OnFailure(None), 1, 1000));
        assert!(ask(Restart::OnFailure(Some(3)), 1, 2) && !ask(Restart::OnFailure(Some(3)), 1, 3));
        assert!(ask(Restart::Always, 0, 9) && ask(Restart::UnlessStopped, 0, 9));
    }

    #[test]
    fn the_wait_doubles_until_a_minute_and_begins_anew_after_a_long_run() {
        let mut last = None;
        let mut all = Vec::new();
        for _ in 0..12 {
            last = delay(Restart::Always, 1, 0, Duration::ZERO, last);
            all.push(last.unwrap().as_millis());
        }
        assert_eq!(all, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(delay(Restart::Always, 1, 0, WELL, last), Some(FIRST));
    }
}
