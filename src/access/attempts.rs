//! How often somebody may try to sign in: failures of one address for one user, and of one address for all users.
//!
//! A bucket holds so many attempts and fills up again over `auth.attempts_window`. An attempt is taken before the password is
//! looked at, so that many at once are not free, and given back when it was right. Nobody can lock a user out from
//! another address.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::config::Auth;

/// Counts attempts to sign in.
#[derive(Debug)]
pub(super) struct Attempts {
    per_user: f64,
    per_address: f64,
    window: Duration,
    hasher: RandomState,
    /// `auth.attempts_tracked_max` of them; beyond it the ones not used for longest are forgotten.
    buckets: Mutex<LruCache<Place, Bucket>>,
}

/// Where failures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// One address, all users.
    Address(IpAddr),
    /// One address, one user, by the hash of its name: what a client calls itself may be long.
    User(IpAddr, u64),
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Attempts that are left.
    left: f64,
    /// When that was so.
    at: Instant,
}

impl Attempts {
    pub(super) fn new(config: &Auth) -> Self {
        let tracked = NonZeroUsize::new(config.attempts_tracked_max).unwrap_or(NonZeroUsize::MIN);
        Self {
            per_user: f64::from(config.attempts_max),
            per_address: f64::from(config.attempts_per_address_max),
            window: config.attempts_window,
            hasher: RandomState::new(),
            buckets: Mutex::new(LruCache::new(tracked)),
        }
    }

    /// Takes an attempt; the error is the time after which there is one again.
    pub(super) fn take(&self, address: IpAddr, user: &str, now: Instant) -> Result<(), Duration> {
        self.with(address, user, now, true)
    }

    /// Whether there is an attempt to take.
    pub(super) fn check(&self, address: IpAddr, user: &str, now: Instant) -> Result<(), Duration> {
        self.with(address, user, now, false)
    }

    fn with(&self, address: IpAddr, user: &str, now: Instant, take: bool) -> Result<(), Duration> {
        let places = self.places(address, user);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let lefts = places.map(|(place, max)| match buckets.get(&place) {
            Some(bucket) => self.left(*bucket, max, now),
            None => max,
        });
        for (left, (_, max)) in lefts.iter().zip(&places) {
            if *left < 1.0 {
                return Err(self.window.mul_f64((1.0 - left) / max));
            }
        }
        if take {
            for (left, (place, _)) in lefts.iter().zip(&places) {
                buckets.put(*place, Bucket { left: left - 1.0, at: now });
            }
        }
        Ok(())
    }

    /// Gives the attempt back, and forgets the user's failures at this address: the password was right.
    pub(super) fn succeeded(&self, address: IpAddr, user: &str) {
        let [(place, max), (of_user, _)] = self.places(address, user);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.pop(&of_user);
        if let Some(bucket) = buckets.get_mut(&place) {
            bucket.left = (bucket.left + 1.0).min(max);
        }
    }

    fn left(&self, bucket: Bucket, max: f64, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64() / self.window.as_secs_f64();
        passed.mul_add(max, bucket.left).min(max)
    }

    fn places(&self, address: IpAddr, user: &str) -> [(Place, f64); 2] {
        let address = network(address);
        let user = Place::User(address, self.hasher.hash_one(user));
        [(Place::Address(address), self.per_address), (user, self.per_user)]
    }
}

/// Who has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "10.0.0.1";
    const THERE: &str = "10.0.0.2";

    fn attempts(tracked: usize) -> Attempts {
        Attempts::new(&Auth {
            attempts_max: 3,
            attempts_per_address_max: 5,
            attempts_window: Duration::from_secs(30),
            attempts_tracked_max: tracked,
            ..Auth::default()
        })
    }

    fn take(attempts: &Attempts, address: &str, user: &str, at: Instant) -> bool {
        let address = address.parse().unwrap();
        let could = attempts.check(address, user, at).is_ok();
        let did = attempts.take(address, user, at).is_ok();
        assert_eq!(could, did);
        did
    }

    #[test]
    fn failures_are_counted_for_each_user_and_address_and_end() {
        let (attempts, now) = (attempts(100), Instant::now());
        for _ in 0..3 {
            assert!(take(&attempts, HERE, "ann", now));
        }
        assert!(!take(&attempts, HERE, "ann", now));
        let wait = attempts.take(HERE.parse().unwrap(), "ann", now).unwrap_err();
        assert_eq!(wait.as_secs(), 10);
        // Not for others, and not from elsewhere.
        assert!(take(&attempts, HERE, "bob", now) && take(&attempts, THERE, "ann", now));
        // The address has had five.
        assert!(take(&attempts, HERE, "bob", now));
        assert!(!take(&attempts, HERE, "bob", now) && !take(&attempts, HERE, "zoe", now));
        assert!(take(&attempts, HERE, "ann", now + Duration::from_secs(11)));
        assert!(!take(&attempts, HERE, "ann", now + Duration::from_secs(11)));
    }

    #[test]
    fn a_success_is_free_and_forgives() {
        let (attempts, now) = (attempts(100), Instant::now());
        for _ in 0..20 {
            assert!(take(&attempts, HERE, "ann", now) && take(&attempts, HERE, "ann", now));
            attempts.succeeded(HERE.parse().unwrap(), "ann");
            attempts.succeeded(HERE.parse().unwrap(), "ann");
        }
    }

    #[test]
    fn places_are_bounded_and_a_network_of_ipv6_is_one() {
        let (attempts, now) = (attempts(10), Instant::now());
        for number in 0..1000 {
            take(&attempts, &format!("10.1.{}.{}", number / 256, number % 256), "ann", now);
        }
        assert_eq!(attempts.buckets.lock().unwrap().len(), 10);
        for number in 0..3 {
            assert!(take(&attempts, &format!("2001:db8::{number}"), "ann", now));
        }
        assert!(!take(&attempts, "2001:db8::9", "ann", now) && take(&attempts, "2001:db8:0:1::9", "ann", now));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), HERE.parse::<IpAddr>().unwrap());
    }
}
