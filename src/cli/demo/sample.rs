//! Sample data: a month of a small shop, the same in every run. Each event and each customer follows from its number alone,
//! so nothing is kept between them, however many there are.

use std::fmt::Write as _;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use jiff::ToSpan;
use jiff::civil::{Date, date};

use crate::cli::ingest::managed::{EventRow, EventRows, ProfileRow, ProfileRows};

/// The days of the events.
pub(super) const FIRST_DAY: &str = "2025-06-01";
pub(super) const LAST_DAY: &str = "2025-06-30";

/// The first day's midnight, in milliseconds since 1970.
const START_MILLIS: u64 = 1_748_736_000_000;
const MONTH_MILLIS: u64 = 30 * 24 * 60 * 60 * 1000;
/// More would have to share milliseconds.
pub(super) const EVENTS_MAX: u64 = 1_000_000_000;
const EVENTS_OF_CUSTOMER: u64 = 25;
const CUSTOMERS_MAX: u64 = 100_000;
/// Customers signed up from here on, before the first event.
const FIRST_SIGN_UP: Date = date(2023, 1, 1);
const SIGN_UP_DAYS: u64 = 880;
/// Rows of a batch: few enough for the progress to move.
const BATCH_ROWS: u64 = 8192;

/// Things to choose from, each with how many of a hundred choices fall on it.
type Weighted<T> = [(T, u64)];

const EVENTS: &Weighted<&str> = &[
    ("page view", 38),
    ("product view", 25),
    ("search", 15),
    ("add to cart", 10),
    ("checkout", 5),
    ("purchase", 4),
    ("review", 2),
    ("refund", 1),
];
const COUNTRIES: &Weighted<&str> =
    &[("US", 34), ("DE", 18), ("GB", 14), ("FR", 11), ("JP", 9), ("BR", 8), ("IN", 4), ("NL", 2)];
const SYSTEMS: &Weighted<&str> = &[("iOS", 36), ("Android", 33), ("Windows", 17), ("macOS", 12), ("Linux", 2)];
const VERSIONS: &Weighted<&str> = &[("4.2.1", 55), ("4.2.0", 30), ("4.1.7", 15)];
const PAGES: &Weighted<&str> = &[("/", 50), ("/sale", 25), ("/new", 15), ("/help", 10)];
const QUERIES: &Weighted<&str> = &[("coffee", 40), ("lamp", 25), ("desk", 20), ("gift", 15)];
/// Plans; what they cost does not matter, those who pay more buy more.
const PLANS: &Weighted<Plan> = &[
    (Plan { name: "free", items_max: 2 }, 68),
    (Plan { name: "plus", items_max: 4 }, 24),
    (Plan { name: "pro", items_max: 8 }, 8),
];
const PRODUCTS: &Weighted<Product> = &[
    (Product { name: "coffee grinder", category: "kitchen", cents: 4_990 }, 20),
    (Product { name: "espresso cups", category: "kitchen", cents: 2_450 }, 25),
    (Product { name: "desk lamp", category: "office", cents: 3_900 }, 20),
    (Product { name: "notebook", category: "office", cents: 895 }, 20),
    (Product { name: "wool blanket", category: "home", cents: 7_900 }, 10),
    (Product { name: "candle", category: "home", cents: 1_250 }, 5),
];

#[derive(Clone, Copy, Debug)]
struct Plan {
    name: &'static str,
    /// Items in one purchase, at most.
    items_max: u64,
}

#[derive(Clone, Copy, Debug)]
struct Product {
    name: &'static str,
    category: &'static str,
    cents: u64,
}

/// A shop with so many events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shop {
    events: u64,
}

/// A customer: whoever sends events, and has a profile.
#[derive(Clone, Copy, Debug)]
struct Customer {
    number: u64,
    country: &'static str,
    plan: Plan,
    system: &'static str,
    signed_up: Date,
}

impl Shop {
    pub(super) fn new(events: u64) -> Self {
        Self { events }
    }

    /// How many events it has.
    pub(super) fn events(self) -> u64 {
        self.events
    }

    /// How many customers it has.
    pub(super) fn customers(self) -> u64 {
        (self.events / EVENTS_OF_CUSTOMER).clamp(1, CUSTOMERS_MAX)
    }

    /// The events, in the order of their times.
    pub(super) fn event_batches(self) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static {
        let mut rows = EventRows::new();
        batches(self.events).map(move |numbers| {
            let mut properties = String::new();
            for number in numbers {
                let mut random = Random::of(Stream::Event, number);
                let (customer, time_micros) = self.who_and_when(number, &mut random);
                let customer = Customer::of(customer);
                let event_name = random.choose(EVENTS);
                properties.clear();
                customer.write_properties(event_name, &mut random, &mut properties);
                rows.push(&EventRow {
                    event_name,
                    event_time: time_micros,
                    distinct_id: &customer.distinct_id(),
                    // Mixing is one to one: no two events have the same key.
                    insert_id: &format!("{:016x}", mix(number)),
                    properties: Some(&properties),
                });
            }
            rows.flush()
        })
    }

    /// The profiles of all customers; `last_seen` is the time of their last event, null without any.
    pub(super) fn profile_batches(self) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static {
        // Filled when it is first needed: on the thread that makes the batches.
        let mut last_seen: Vec<Option<i64>> = Vec::new();
        let mut rows = ProfileRows::new();
        batches(self.customers()).map(move |numbers| {
            if last_seen.is_empty() {
                last_seen = self.last_seen();
            }
            for (number, last_seen) in numbers.clone().zip(last_seen.iter().skip(index(numbers.start))) {
                let customer = Customer::of(number);
                let Customer { country, plan, signed_up, .. } = customer;
                let plan = plan.name;
                rows.push(&ProfileRow {
                    distinct_id: &customer.distinct_id(),
                    properties: Some(&format!(
                        r#"{{"plan":"{plan}","country":"{country}","signed_up":"{signed_up}"}}"#
                    )),
                    last_seen: *last_seen,
                });
            }
            rows.flush()
        })
    }

    fn last_seen(self) -> Vec<Option<i64>> {
        let mut last_seen = vec![None; index(self.customers())];
        for number in 0..self.events {
            let (customer, time_micros) = self.who_and_when(number, &mut Random::of(Stream::Event, number));
            last_seen[index(customer)] = Some(time_micros);
        }
        last_seen
    }

    /// The customer and the time of an event, in microseconds since 1970. The first draws of its `random`.
    fn who_and_when(self, number: u64, random: &mut Random) -> (u64, i64) {
        // Some customers come every day, most of them seldom.
        let regulars = random.below(self.customers()) + 1;
        let customer = random.below(regulars);
        let step_millis = MONTH_MILLIS / self.events;
        let millis = START_MILLIS + number * step_millis + random.below(step_millis);
        (customer, (millis * 1000).cast_signed())
    }
}

impl Customer {
    fn of(number: u64) -> Self {
        let mut random = Random::of(Stream::Customer, number);
        Self {
            number,
            country: random.choose(COUNTRIES),
            plan: random.choose(PLANS),
            system: random.choose(SYSTEMS),
            signed_up: FIRST_SIGN_UP.saturating_add(random.below(SIGN_UP_DAYS).cast_signed().days()),
        }
    }

    fn distinct_id(&self) -> String {
        format!("customer-{:06}", self.number)
    }

    /// Writes the properties of an event as JSON. No text of the sample needs escapes.
    fn write_properties(&self, event_name: &str, random: &mut Random, json: &mut String) {
        let Self { country, system, .. } = self;
        let version = random.choose(VERSIONS);
        // Writing to a String cannot fail.
        let _ =
            write!(json, r#"{{"country":"{country}","device":{{"os":"{system}","app":{{"version":"{version}"}}}},"#);
        let _ = match event_name {
            "page view" => write!(json, r#""page":"{}""#, random.choose(PAGES)),
            "search" => write!(json, r#""query":"{}","results":{}"#, random.choose(QUERIES), random.below(40)),
            "product view" | "add to cart" | "review" => {
                let Product { name, category, cents } = random.choose(PRODUCTS);
                let price = Money(cents);
                write!(json, r#""product":{{"name":"{name}","category":"{category}","price":{price}}}"#)
            }
            _ => {
                let items = random.below(self.plan.items_max) + 1;
                let amount = Money((0..items).map(|_| random.choose(PRODUCTS).cents).sum());
                write!(json, r#""items":{items},"amount":{amount},"currency":"EUR""#)
            }
        };
        json.push('}');
    }
}

/// Cents, written as a number with two decimals.
struct Money(u64);

impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// What numbers are drawn for, so that event 7 and customer 7 have nothing in common.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Event = 1,
    Customer = 2,
}

/// Random numbers that follow from a seed (SplitMix64), the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn of(stream: Stream, number: u64) -> Self {
        Self(mix(number ^ ((stream as u64) << 60)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn choose<T: Copy>(&mut self, things: &Weighted<T>) -> T {
        let mut left = self.below(things.iter().map(|(_, weight)| weight).sum());
        for &(thing, weight) in things {
            if left < weight {
                return thing;
            }
            left -= weight;
        }
        unreachable!("the number is below the sum of the weights")
    }
}

/// Spreads the bits of a number; no two numbers have the same result.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The numbers below `rows`, a batch at a time.
fn batches(rows: u64) -> impl Iterator<Item = std::ops::Range<u64>> + Send + 'static {
    (0..rows.div_ceil(BATCH_ROWS)).map(move |batch| batch * BATCH_ROWS..rows.min((batch + 1) * BATCH_ROWS))
}

/// The number of a customer as an index; there are not many.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::TimestampMicrosecondType;

    use super::*;

    fn events(shop: Shop) -> Vec<RecordBatch> {
        shop.event_batches().map(Result::unwrap).collect()
    }

    fn profiles(shop: Shop) -> Vec<RecordBatch> {
        shop.profile_batches().map(Result::unwrap).collect()
    }

    fn texts<'a>(batches: &'a [RecordBatch], column: &'a str) -> impl Iterator<Item = &'a str> {
        batches.iter().flat_map(move |batch| batch[column].as_string::<i32>().iter().map(Option::unwrap))
    }

    fn times<'a>(batches: &'a [RecordBatch], column: &'a str) -> impl Iterator<Item = Option<i64>> + 'a {
        batches.iter().flat_map(move |batch| batch[column].as_primitive::<TimestampMicrosecondType>())
    }

    #[test]
    fn it_is_the_same_every_time() {
        let shop = Shop::new(20_000);
        assert_eq!(events(shop), events(shop));
        assert_eq!(profiles(shop), profiles(shop));
        let first = &events(Shop::new(3))[..1];
        assert_eq!(texts(first, "insert_id").next(), Some("0000000000000000"));
    }

    #[test]
    fn keys_are_unique() {
        let shop = Shop::new(50_000);
        let (events, profiles) = (events(shop), profiles(shop));
        assert_eq!(texts(&events, "insert_id").collect::<HashSet<_>>().len(), 50_000);
        let customers: HashSet<_> = texts(&profiles, "distinct_id").collect();
        assert_eq!(customers.len() as u64, shop.customers());
        assert!(texts(&events, "distinct_id").all(|id| customers.contains(id)));
    }

    #[test]
    fn events_fill_the_month_in_order() {
        let events = events(Shop::new(20_000));
        let times: Vec<i64> = times(&events, "event_time").map(Option::unwrap).collect();
        assert!(times.is_sorted());
        let day = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap().to_string()[..10].to_owned();
        assert_eq!((day(times[0]), day(times[times.len() - 1])), (FIRST_DAY.to_owned(), LAST_DAY.to_owned()));
        assert_eq!(texts(&events, "event_name").collect::<HashSet<_>>().len(), EVENTS.len());
    }

    #[test]
    fn properties_are_json() {
        let shop = Shop::new(2_000);
        for text in texts(&events(shop), "properties").chain(texts(&profiles(shop), "properties")) {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert!(value["country"].is_string() && (value["plan"].is_string() || value["device"]["os"].is_string()));
            assert!(value.get("amount").is_none_or(serde_json::Value::is_number), "{text}");
        }
    }

    #[test]
    fn profiles_know_the_last_event() {
        let shop = Shop::new(20_000);
        let (events, profiles) = (events(shop), profiles(shop));
        let last: HashMap<&str, Option<i64>> =
            texts(&events, "distinct_id").zip(times(&events, "event_time")).collect();
        for (id, last_seen) in texts(&profiles, "distinct_id").zip(times(&profiles, "last_seen")) {
            assert_eq!(last_seen, last.get(id).copied().flatten(), "{id}");
        }
    }

    #[test]
    fn any_number_of_events_will_do() {
        for number in [1, 24, 8_192, 8_193] {
            let rows: usize = events(Shop::new(number)).iter().map(RecordBatch::num_rows).sum();
            assert_eq!(rows as u64, number);
        }
        assert_eq!(profiles(Shop::new(1))[0].column(0).len(), 1);
        assert!(Shop::new(EVENTS_MAX).who_and_when(EVENTS_MAX - 1, &mut Random(0)).1 > 0);
    }
}
