//! When to try a request again.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use super::error::Fault;

/// How often, and after how long, a request that failed in passing is repeated.
///
/// The same holds for a blob that breaks off: it goes on where it was. Whenever
/// 256 KiB more have come, the count begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often to try in all without progress; at least once.
    pub attempts: u32,
    /// The first pause at its longest; each later one may be twice as long. The real
    /// one is random below that, so that a thousand machines do not come back at once.
    pub pause: Duration,
    /// The longest pause, also where the server wants a longer one.
    pub longest_pause: Duration,
}

/// So many bytes of a blob are progress. A server that breaks off after a few
/// each time is given up on.
pub(super) const PROGRESS: u64 = 256 << 10;

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 6,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// How long to wait before the next attempt, when `done` have been made;
    /// nothing when that was the last one. `random` is any number.
    fn pause_after(&self, done: u32, wanted: Option<Duration>, random: u32) -> Option<Duration> {
        if done >= self.attempts {
            return None;
        }
        let doubled = self
            .pause
            .saturating_mul(1u32.checked_shl(done - 1).unwrap_or(u32::MAX))
            .min(self.longest_pause);
        let jittered = doubled.mul_f64(f64::from(random) / f64::from(u32::MAX));
        // What the server wants is the least; the jitter goes on top.
        let wanted = wanted.map(|wanted| wanted.saturating_add(jittered / 4));
        Some(wanted.unwrap_or(jittered).min(self.longest_pause))
    }
}

/// What is left of the attempts that [`Retry`] allows.
#[derive(Debug)]
pub(super) struct Patience {
    retry: Retry,
    done: u32,
    /// How far the blob had come at the last failure.
    position: u64,
}

impl Patience {
    pub(super) fn new(retry: Retry) -> Self {
        Self {
            retry,
            done: 0,
            position: 0,
        }
    }

    /// How many attempts failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.done
    }

    /// Tells how far the blob has come; returns whether that is progress.
    pub(super) fn reached(&mut self, position: u64) -> bool {
        let progress = position.saturating_sub(self.position) >= PROGRESS;
        if progress {
            self.done = 0;
            self.position = position;
        }
        progress
    }

    /// Counts a failure, and waits if there is to be another attempt; tells whether.
    pub(super) fn wait(&mut self, fault: &Fault) -> bool {
        self.done += 1;
        let pause = self
            .retry
            .pause_after(self.done, fault.retry_after(), random());
        match pause.filter(|_| fault.is_transient()) {
            Some(pause) => std::thread::sleep(pause),
            None => return false,
        }
        true
    }
}

/// A number that differs from machine to machine and from time to time: the
/// standard library seeds its hash maps so.
fn random() -> u32 {
    let number = RandomState::new().hash_one(0);
    u32::try_from(number >> 32).unwrap_or(u32::MAX)
}

/// What `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3), which is
/// taken against the `date` of the same answer, since a machine's own clock may be wrong.
pub(super) fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too large a number is a long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let parse = |text: &str| -> Option<SystemTime> { httpdate::parse_http_date(text.trim()).ok() };
    let until = parse(value)?;
    Some(until.duration_since(parse(date?)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRY: Retry = Retry {
        attempts: 100,
        pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(5),
    };

    #[test]
    fn the_longest_pauses_double_up_to_the_limit_and_end_with_the_attempts() {
        let pause = |done, wanted| RETRY.pause_after(done, wanted, u32::MAX);
        let seconds: Vec<_> = (1..=4)
            .map(|done| pause(done, None).unwrap().as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 5]);
        assert_eq!(pause(99, None).unwrap().as_secs(), 5);
        assert_eq!(pause(100, None), None);
        let wanted = Some(Duration::from_secs(1_000_000_000));
        assert_eq!(pause(1, wanted).unwrap().as_secs(), 5);
    }

    proptest! {
        #[test]
        fn a_pause_is_never_shorter_than_wanted_nor_longer_than_allowed(
            done in 1u32..99, wanted in proptest::option::of(0u64..10), random: u32,
        ) {
            let wanted = wanted.map(Duration::from_secs);
            let pause = RETRY.pause_after(done, wanted, random).unwrap();
            prop_assert!(pause <= RETRY.longest_pause);
            prop_assert!(pause >= wanted.unwrap_or_default().min(RETRY.longest_pause));
        }

        #[test]
        fn any_retry_after_is_parsed_without_panic(value in "\\PC*", date in proptest::option::of("\\PC*")) {
            parse_retry_after(&value, date.as_deref());
        }
    }

    #[test]
    fn progress_begins_the_count_anew_and_a_few_bytes_do_not() {
        let mut patience = Patience::new(Retry {
            pause: Duration::ZERO,
            attempts: 2,
            ..RETRY
        });
        let fault = Fault::Transport("reset".to_owned());
        assert!(patience.wait(&fault));
        assert!(!patience.reached(PROGRESS - 1));
        assert!(patience.reached(PROGRESS));
        assert!(patience.wait(&fault));
        assert!(!patience.reached(PROGRESS + 1));
        assert!(!patience.wait(&fault));
    }

    #[test]
    fn a_server_may_say_seconds_or_a_date() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let parse = |value| parse_retry_after(value, date).map(|time| time.as_secs());
        assert_eq!(parse(" 7 "), Some(7));
        assert_eq!(parse("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(parse("Sun, 06 Nov 1994 08:50:00 GMT"), Some(23));
        assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for garbage in ["", "-1", "soon", "1.5"] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
        assert_eq!(
            parse_retry_after("Sun, 06 Nov 1994 08:50:00 GMT", None),
            None
        );
    }
}
