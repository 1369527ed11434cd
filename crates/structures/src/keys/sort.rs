use std::cmp::Ordering;

use bytes::Bytes;

use super::Evaluated;
use crate::{
    Arguments, Command, CommandError,
    Flag::{DenyOom, MovableKeys, ReadOnly, Write},
    Held, KeyCommand, Keys, KeysCommand, KeysOutcome, List, ListOperation, Outcome, Reply, Set, SortedSet, Structure,
    View,
    number::parse_sort_weight,
};

const COMPLEXITY: &str = "O(N log N) for N elements";

pub(super) fn commands() -> Vec<KeyCommand> {
    let command = Command::on_key("sort_ro", -2, &[ReadOnly]);
    let summary = "Reads the elements of a list, a set or a sorted set in order";
    vec![KeyCommand::new(command.documented("generic", "7.0.0", COMPLEXITY, summary), |view, arguments, _| {
        read(view, arguments)
    })]
}

pub(super) fn commands_on_keys() -> Vec<KeysCommand> {
    let command = Command::on_key("sort", -2, &[Write, DenyOom, MovableKeys]);
    let summary = "Reads or stores the elements of a list, a set or a sorted set in order";
    let command = command.documented("generic", "1.0.0", COMPLEXITY, summary);
    let sort = KeysCommand::new(command, |keys, _, _| sort(keys))
        .finding_keys(|_, arguments| Ok([1].into_iter().chain(destination(arguments)).collect()));
    vec![sort]
}

/// The argument behind the last `STORE` that is none of another option's.
fn destination(arguments: &[Bytes]) -> Option<usize> {
    let mut found = None;
    let mut position = 2;
    while let Some(word) = arguments.get(position) {
        position += match &*word.to_ascii_lowercase() {
            b"store" if position + 1 < arguments.len() => {
                found = Some(position + 1);
                2
            }
            b"limit" => 3,
            b"by" | b"get" => 2,
            _ => 1,
        };
    }
    found
}

/// How elements are put in order and which are answered.
struct Options {
    is_descending: bool,
    is_by_text: bool,
    /// They stay in the order that they have.
    is_unsorted: bool,
    offset: usize,
    limit: usize,
    /// What is answered for each.
    gets: Vec<Get>,
    /// Whether it is stored and not answered.
    is_stored: bool,
}

/// What `GET` asks for.
#[derive(Clone, Copy)]
enum Get {
    /// The element.
    Element,
    /// A key that no element changes the name of: Redis answers that there is none.
    Nothing,
}

impl Options {
    /// Patterns of other keys are refused as Redis's cluster refuses them.
    fn read(arguments: &mut Arguments<'_>, is_read_only: bool) -> Result<Self, CommandError> {
        let mut options = Self {
            is_descending: false,
            is_by_text: false,
            is_unsorted: false,
            offset: 0,
            limit: usize::MAX,
            gets: Vec::new(),
            is_stored: false,
        };
        let denied = |name: &str| CommandError::new(format_args!("{name} option of SORT denied in Cluster mode."));
        while !arguments.is_empty() {
            if arguments.take_word("asc") {
                options.is_descending = false;
            } else if arguments.take_word("desc") {
                options.is_descending = true;
            } else if arguments.take_word("alpha") {
                options.is_by_text = true;
            } else if arguments.take_option("limit", 2) {
                let (offset, limit) = (arguments.integer()?, arguments.integer()?);
                options.offset = usize::try_from(offset).unwrap_or(0);
                options.limit = usize::try_from(limit).unwrap_or(usize::MAX);
            } else if arguments.take_option("by", 1) {
                options.is_unsorted = true;
                if arguments.next_bytes()?.contains(&b'*') {
                    return Err(denied("BY"));
                }
            } else if arguments.take_option("get", 1) {
                options.gets.push(match arguments.next_bytes()?.as_ref() {
                    b"#" => Get::Element,
                    pattern if pattern.contains(&b'*') => return Err(denied("GET")),
                    _ => Get::Nothing,
                });
            } else if !is_read_only && arguments.take_option("store", 1) {
                arguments.next_bytes()?;
                options.is_stored = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.gets.is_empty() {
            options.gets.push(Get::Element);
        }
        Ok(options)
    }
}

fn read(view: &View<'_>, arguments: &mut Arguments<'_>) -> Evaluated {
    let options = Options::read(arguments, true)?;
    Ok(Outcome::reply(Reply::Array(chosen(view, options)?)))
}

fn sort(keys: &Keys<'_>) -> Result<KeysOutcome, CommandError> {
    let options = Options::read(&mut Arguments::new("sort", &keys.arguments()[2..]), false)?;
    let is_stored = options.is_stored;
    let chosen = chosen(&keys.view(0), options)?;
    if !is_stored {
        return Ok(KeysOutcome::reply(Reply::Array(chosen)));
    }
    let reply = Reply::count(chosen.len());
    let items = chosen.into_iter().map(|item| match item {
        Reply::Bulk(item) => item,
        // What is answered as nothing is stored as an empty string.
        _ => Bytes::new(),
    });
    let mut list = List::default();
    list.apply(ListOperation::PushBack(items.collect()));
    Ok(KeysOutcome::new(reply, keys.hold(1, &list, None)))
}

/// What is answered or stored.
fn chosen(view: &View<'_>, options: Options) -> Result<Vec<Reply>, CommandError> {
    let mut options = options;
    let mut elements = elements(view)?;
    let is_set = view.structure::<Set>().is_ok_and(|set| set.is_some());
    if options.is_stored && options.is_unsorted && is_set {
        // What is stored must not be in the order of chance.
        (options.is_unsorted, options.is_by_text) = (false, true);
    }
    if !options.is_unsorted {
        elements = if options.is_by_text { sorted_by_text(elements) } else { sorted_by_number(elements)? };
    }
    if options.is_descending && !(options.is_unsorted && is_set) {
        elements.reverse();
    }
    let chosen = elements.into_iter().skip(options.offset).take(options.limit);
    let answered = chosen.flat_map(|element| {
        let answer = move |get: &Get| match get {
            Get::Element => Reply::Bulk(element.clone()),
            Get::Nothing => Reply::Null,
        };
        options.gets.iter().map(answer)
    });
    Ok(answered.collect())
}

/// What the key holds, in the order that it has.
fn elements(view: &View<'_>) -> Result<Vec<Bytes>, CommandError> {
    let Some(held) = view.held else { return Ok(Vec::new()) };
    let Held::Structure(state) = held else { return Err(CommandError::WrongType) };
    let state = state.as_any();
    if let Some(list) = state.downcast_ref::<List>() {
        Ok(list.items().cloned().collect())
    } else if let Some(set) = state.downcast_ref::<Set>() {
        Ok(set.members().cloned().collect())
    } else if let Some(sorted_set) = state.downcast_ref::<SortedSet>() {
        Ok(sorted_set.members().cloned().collect())
    } else {
        Err(CommandError::WrongType)
    }
}

/// As C's `strcoll` compares in the locale `C`: up to the first zero byte.
fn sorted_by_text(elements: Vec<Bytes>) -> Vec<Bytes> {
    let text = |element: &Bytes| element.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    let mut elements = elements;
    elements.sort_by_cached_key(text);
    elements
}

fn sorted_by_number(elements: Vec<Bytes>) -> Result<Vec<Bytes>, CommandError> {
    let weighed = elements.into_iter().map(|element| Some((parse_sort_weight(&element)?, element)));
    let mut weighed: Vec<(f64, Bytes)> = weighed
        .collect::<Option<_>>()
        .ok_or_else(|| CommandError::new("One or more scores can't be converted into double"))?;
    weighed.sort_by(|(first, first_element), (second, second_element)| {
        let by_weight = first.partial_cmp(second).unwrap_or(Ordering::Equal);
        by_weight.then_with(|| first_element.cmp(second_element))
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}
