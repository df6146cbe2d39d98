/* contactsync 0.1 to 0.2 */

-- complain if the script is sourced in psql rather than by ALTER EXTENSION
\echo Use "ALTER EXTENSION contactsync UPDATE" to load this file. \quit
