//! Just enough of the Redis protocol, versions 2 and 3, to ask a server and to compare what it answers.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use bytes::Bytes;
use difuse_structures::{Reply, format_double};

/// A reply as a client sees it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Value {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Bytes),
    Null,
    NullArray,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Double(String),
    Boolean(bool),
}

impl Value {
    /// What a client of this version of the protocol sees of a reply.
    pub fn of(reply: &Reply, version: u8) -> Self {
        let list = |items: &[Reply]| items.iter().map(|item| Self::of(item, version)).collect::<Vec<_>>();
        let pairs = |pairs: &[(Reply, Reply)]| {
            pairs.iter().map(|(a, b)| (Self::of(a, version), Self::of(b, version))).collect::<Vec<_>>()
        };
        let flat = |pairs: Vec<(Self, Self)>| Self::Array(pairs.into_iter().flat_map(|(a, b)| [a, b]).collect());
        match (reply, version) {
            (Reply::Status(text), _) => Self::Status(text.clone()),
            (Reply::Error(text), _) => Self::Error(text.clone()),
            (Reply::Integer(number), _) => Self::Integer(*number),
            (Reply::Bulk(bytes), _) => Self::Bulk(bytes.clone()),
            (Reply::NullArray, 2) => Self::NullArray,
            (Reply::Null | Reply::NullArray, _) => Self::Null,
            (Reply::Array(items), _) | (Reply::Set(items), 2) => Self::Array(list(items)),
            (Reply::Set(items), _) => Self::Set(list(items)),
            (Reply::Map(fields) | Reply::PairsByName(fields), 3) => Self::Map(pairs(fields)),
            (Reply::Map(fields) | Reply::Pairs(fields), 2) => flat(pairs(fields)),
            (Reply::Map(fields) | Reply::Pairs(fields) | Reply::PairsByName(fields), _) => {
                Self::Array(pairs(fields).into_iter().map(|(a, b)| Self::Array(vec![a, b])).collect())
            }
            (Reply::Double(number), 2) => Self::Bulk(format_double(*number).into()),
            (Reply::Double(number), _) => Self::Double(format_double(*number)),
            (Reply::Boolean(is_true), 2) => Self::Integer(i64::from(*is_true)),
            (Reply::Boolean(is_true), _) => Self::Boolean(*is_true),
            (Reply::Verbatim(_, text), _) => Self::Bulk(text.clone().into()),
        }
    }

    /// What a list, a set or a map has in it, one level deep; itself if it is none.
    pub fn items(&self) -> Vec<Value> {
        match self {
            Self::Array(items) | Self::Set(items) => items.clone(),
            Self::Map(pairs) => pairs.iter().map(|(a, b)| Self::Array(vec![a.clone(), b.clone()])).collect(),
            other => vec![other.clone()],
        }
    }

    /// The same with everything in it in one order, whatever it was.
    pub fn sorted(&self) -> Self {
        let sort = |items: &[Self]| {
            let mut items: Vec<Self> = items.iter().map(Self::sorted).collect();
            items.sort();
            items
        };
        match self {
            Self::Array(items) => Self::Array(sort(items)),
            Self::Set(items) => Self::Set(sort(items)),
            Self::Map(pairs) => {
                let mut pairs = pairs.clone();
                pairs.sort();
                Self::Map(pairs)
            }
            other => other.clone(),
        }
    }
}

/// A connection to a server.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects, and speaks this version of the protocol.
    pub fn open(port: u16, version: u8) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream: BufReader::new(stream) };
        connection.ask(&["HELLO".into(), version.to_string().into()])?;
        Ok(connection)
    }

    /// Sends a command and reads the reply.
    pub fn ask(&mut self, arguments: &[Bytes]) -> std::io::Result<Value> {
        self.send(std::slice::from_ref(&arguments.to_vec()))?;
        self.read()
    }

    /// Sends commands; their replies are to be read.
    pub fn send(&mut self, commands: &[Vec<Bytes>]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for arguments in commands {
            write!(bytes, "*{}\r\n", arguments.len())?;
            for argument in arguments {
                write!(bytes, "${}\r\n", argument.len())?;
                bytes.extend_from_slice(argument);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        self.stream.get_mut().write_all(&bytes)
    }

    /// Reads one reply.
    pub fn read(&mut self) -> std::io::Result<Value> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r\n").unwrap_or(&line)).into_owned();
        let Some(kind) = text.chars().next() else { return Err(std::io::ErrorKind::UnexpectedEof.into()) };
        let rest = text[kind.len_utf8()..].to_string();
        let number = || rest.parse::<i64>().map_err(std::io::Error::other);
        Ok(match kind {
            '+' => Value::Status(rest),
            '-' => Value::Error(rest),
            ':' => Value::Integer(number()?),
            '_' => Value::Null,
            '#' => Value::Boolean(rest == "t"),
            ',' => Value::Double(rest),
            '$' if number()? < 0 => Value::Null,
            '$' | '=' => {
                let mut bytes = vec![0; usize::try_from(number()?).map_err(std::io::Error::other)? + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Value::Bulk(bytes.into())
            }
            '*' if number()? < 0 => Value::NullArray,
            '*' => Value::Array((0..number()?).map(|_| self.read()).collect::<Result<_, _>>()?),
            '~' => Value::Set((0..number()?).map(|_| self.read()).collect::<Result<_, _>>()?),
            '%' => Value::Map(
                (0..number()?).map(|_| Ok((self.read()?, self.read()?))).collect::<Result<_, std::io::Error>>()?,
            ),
            _ => return Err(std::io::Error::other(format!("no reply: {text}"))),
        })
    }
}
