//! The database file, which SQLite reads.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::header::Broken;
use crate::scan::{Entry, Kind, Opened, Scan};

/// The longest header, in bytes: as rpm has it.
const HEADER_MAX: i32 = 256 * 1024 * 1024;
/// Files beside the database with changes that are not in it yet.
const PENDING: [&[u8]; 2] = [b"-wal", b"-journal"];

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqliteError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("it has no table of packages")]
    NoTable,
    #[error("it has more in its table of packages than there is room for in the file")]
    TooMuch,
    #[error("the package in row {0}: {1}")]
    Package(i64, Broken),
    #[error("the file changed while it was read")]
    Changed,
}

/// A database that is open.
///
/// It is read where it is, and nothing is written beside it; with changes that are not
/// in it yet, a copy of both is read.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    size: u64,
    file: Opened,
    _copy: Option<tempfile::TempDir>,
}

impl Database {
    pub(super) fn open(scan: &Scan, entry: &Entry) -> Result<Self, SqliteError> {
        let size = match entry.kind {
            Kind::Regular(size) => size,
            _ => return Err(SqliteError::NoTable),
        };
        let mut file = scan.open(entry)?;
        let pending: Vec<_> = PENDING
            .iter()
            .filter_map(|end| {
                let place = scan.find(&[&entry.path, *end].concat())?;
                let beside = scan.entries.get(place);
                matches!(beside.kind, Kind::Regular(1..)).then_some((*end, beside))
            })
            .collect();
        if let Opened::File(file) = &file
            && pending.is_empty()
        {
            let connection = connect_in_place(file)?;
            let file = Opened::File(file.try_clone()?);
            return Self::checked(connection, size, file, None);
        }
        let copy = tempfile::tempdir()?;
        let path = copy.path().join("rpmdb.sqlite");
        io::copy(&mut file, &mut File::create_new(&path)?)?;
        for (end, beside) in pending {
            let name = [b"rpmdb.sqlite", end].concat();
            let name = String::from_utf8_lossy(&name).into_owned();
            let mut to = File::create_new(copy.path().join(name))?;
            io::copy(&mut scan.open(&beside)?, &mut to)?;
        }
        let connection = connect_copy(&path)?;
        Self::checked(connection, size, file, Some(copy))
    }

    /// Turns off what a database can have done by who reads it.
    fn checked(
        connection: Connection,
        size: u64,
        file: Opened,
        copy: Option<tempfile::TempDir>,
    ) -> Result<Self, SqliteError> {
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, HEADER_MAX)?;
        for (setting, value) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        ] {
            connection.set_db_config(setting, value)?;
        }
        // Not a virtual table, either.
        let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'Packages' \
            AND type = 'table' AND sql LIKE 'CREATE TABLE%'";
        match connection.query_row(table, [], |row| row.get(0))? {
            1 => Ok(Self {
                connection,
                size,
                file,
                _copy: copy,
            }),
            _ => Err(SqliteError::NoTable),
        }
    }

    /// Gives each header with its row's number.
    pub(super) fn each<T>(
        &self,
        read: impl Fn(&[u8]) -> Result<T, Broken>,
    ) -> Result<Vec<(T, i64)>, SqliteError> {
        let mut statement = self.connection.prepare("SELECT hnum, blob FROM Packages")?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        // Pages that lead to each other in circles make more rows than there are.
        let mut left = self.size;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            let blob = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let taken = u64::try_from(blob.len()).ok().map(|length| length + 1);
            left = taken
                .and_then(|taken| left.checked_sub(taken))
                .ok_or(SqliteError::TooMuch)?;
            let read = read(blob).map_err(|broken| SqliteError::Package(number, broken))?;
            all.push((read, number));
        }
        Ok(all)
    }

    /// Gives the header of one row.
    pub(super) fn with<T>(
        &self,
        number: i64,
        read: impl FnOnce(&[u8]) -> Result<T, Broken>,
    ) -> Result<T, SqliteError> {
        let sql = "SELECT blob FROM Packages WHERE hnum = ?1";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([number])?;
        let row = rows.next()?.ok_or(SqliteError::Changed)?;
        let blob = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        read(blob).map_err(|broken| SqliteError::Package(number, broken))
    }

    /// That the file is still what it was.
    pub(super) fn check_unchanged(&self, scan: &Scan, entry: &Entry) -> Result<(), SqliteError> {
        match scan.is_unchanged(entry, &self.file)? {
            true => Ok(()),
            false => Err(SqliteError::Changed),
        }
    }
}

/// Opens the very file that was opened beneath the root, whatever its path leads to by now.
fn connect_in_place(file: &File) -> Result<Connection, SqliteError> {
    // Immutable: no lock, and no file beside it is asked for or made.
    let path = format!("file:/proc/self/fd/{}?immutable=1", file.as_raw_fd());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(path, flags)?)
}

/// Opens a copy, into which SQLite takes the changes beside it.
fn connect_copy(path: &Path) -> Result<Connection, SqliteError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    Ok(Connection::open_with_flags(path, flags)?)
}
