# With send_window, imports and reconciliations go on only in a part of the day; live changes, and polling, do not wait for it.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
# the sessions have another time zone than the server; the window goes by that of the server
my $node = start_node('log_timezone' => 'Asia/Tokyo', 'timezone' => 'America/New_York');

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub shop { return sql("SET SESSION AUTHORIZATION shop; SET client_min_messages = warning; $_[0]"); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until('postgres', $sql) or die "timed out waiting for $what"; return; }
sub contacts { my ($name) = @_; return $sandbox->count('mailingcore', account => $name)->{contacts}; }

# A window from and to so many hours from now, in a time zone.
sub window
{
	my ($from, $until, $zone) = @_;
	return sql("SELECT to_char(t + $from * interval '1 h', 'HH24:MI') || '-' || to_char(t + $until * interval '1 h', 'HH24:MI') FROM (SELECT now() AT TIME ZONE '$zone') n (t)");
}

sub prepare
{
	my ($name, $window, $more) = @_;

	create_server($node, $sandbox, 'mailingcore', account => $name, role => 'shop', server => { pace => 1000, burst => 1000, send_window => $window });
	shop(qq{CREATE TABLE $name (id int PRIMARY KEY, email text, updated_at timestamptz DEFAULT now());
		INSERT INTO $name SELECT g, format('c%s\@example.com', g) FROM generate_series(1, 20) g;
		SELECT contactsync_watch('$name', '$name', '{"email": "email"}' @{[ $more // '' ]})});
	return;
}

sql('CREATE EXTENSION contactsync; CREATE ROLE shop; GRANT CREATE ON SCHEMA public TO shop');

# closed for hours: the import waits, what changes is sent
my $closed = window(2, 4, 'Asia/Tokyo');
prepare('closed', $closed);
shop(q{SELECT contactsync_import('closed', 'closed'); INSERT INTO closed VALUES (100, 'live@example.com')});
$sandbox->wait_for_contacts('mailingcore', 1, account => 'closed');
is(contacts('closed'), 1, 'a live change does not wait for the window');
my $opens = sql(q{SELECT to_char(now() + interval '2 h', 'YYYY-MM-DD HH24:')});
like(sql(q{SELECT concat_ws('|', state, reason, eta) FROM contactsync.status WHERE server = 'closed'}), qr/^running\|import: 0 % of \d+ rows counted; waits for send_window until $opens/,
	'status says until when an import waits');
like(sql(q{SELECT concat_ws('|', state, reason, eta) FROM contactsync.progress WHERE server = 'closed' AND kind = 'import'}), qr/^running\|waits for send_window until $opens\d\d$/, '... and so does progress');
# a cycle of the worker later it still does
shop(q{UPDATE closed SET email = 'live2@example.com' WHERE id = 100});
wait_until(q{SELECT count(*) >= 2 FROM contactsync.calls WHERE server = 'closed'}, 'another call');
is(sql(q{SELECT done FROM contactsync.progress WHERE server = 'closed' AND kind = 'import'}), 0, 'no row was read');
wait_for('a notice', sub { ($node->psql('postgres', q{SET SESSION AUTHORIZATION shop; CALL contactsync_wait('closed', '3 s')}))[2] =~ /waits for send_window until/ });
pass('contactsync_wait() says what it waits for');

sql(q{SET statement_timeout = '60 s'; SET SESSION AUTHORIZATION shop; CALL contactsync_run('closed')});
pass('contactsync_run() does not');

# the window is opened: by itself the import goes on
shop("ALTER SERVER closed OPTIONS (SET send_window '" . window(-1, 1, 'Asia/Tokyo') . "')");
$sandbox->wait_for_contacts('mailingcore', 21, account => 'closed');
shop(q{CALL contactsync_wait('closed')});
is(sql(q{SELECT state FROM contactsync.status WHERE server = 'closed'}), 'idle', 'in the window the import is completed');

# the same hours elsewhere: the time zone that the option names counts
prepare('zone', window(-1, 1, 'Asia/Kolkata') . ' Asia/Kolkata');
shop(q{SELECT contactsync_import('zone', 'zone'); CALL contactsync_wait('zone')});
is(contacts('zone'), 20, 'the window can name its time zone');
shop("ALTER SERVER zone OPTIONS (SET send_window '" . window(-1, 1, 'Asia/Kolkata') . " UTC')");
shop(q{TRUNCATE zone; SELECT contactsync_reconcile('zone', 'zone')});
like(sql(q{SELECT reason FROM contactsync.status WHERE server = 'zone'}), qr/^reconcile: .* waits for send_window/, '... and a reconciliation waits as well');

# a reconciliation that is due by its schedule begins in the window
prepare('schedule', $closed, q{, reconcile_every => '1 s'});
wait_until(q{SELECT reconcile_next < now() FROM contactsync.watches WHERE server = 'schedule'}, 'a reconciliation to be due');
shop(q{INSERT INTO schedule VALUES (100, 'live@example.com'); CALL contactsync_wait('schedule')});
is(sql(q{SELECT count(*) FROM contactsync.runs WHERE server = 'schedule'}), 0, 'a reconciliation does not begin outside of the window');
shop(q{ALTER SERVER schedule OPTIONS (DROP send_window)});
wait_until(q{SELECT count(*) > 0 FROM contactsync.runs WHERE server = 'schedule' AND state = 'done'}, 'a reconciliation');
pass('... but without one');

# polling is how changes are noticed
create_server($node, $sandbox, 'mailingcore', account => 'polled', role => 'shop', server => { pace => 1000, send_window => $closed });
shop(q{CREATE TABLE polled (id int PRIMARY KEY, email text, updated_at timestamptz DEFAULT now()); CREATE VIEW polled_view AS SELECT * FROM polled;
	SELECT contactsync_watch('polled_view', 'polled', '{"email": "email"}', key => ARRAY['id'], capture => 'poll', poll_column => 'updated_at', poll_every => '1 s');
	INSERT INTO polled VALUES (1, 'c1@example.com', now() + interval '1 s')});
$sandbox->wait_for_contacts('mailingcore', 1, account => 'polled');
pass('polling goes on outside of the window');

# contactsync_run() does not wait for a window that is closed for hours
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->stop;
$node->start;
prepare('foreground', $closed);
shop(q{SELECT contactsync_import('foreground', 'foreground'); INSERT INTO foreground VALUES (100, 'live@example.com'); CALL contactsync_run('foreground')});
is(contacts('foreground'), 1, 'contactsync_run() ends, and leaves the import');
shop("ALTER SERVER foreground OPTIONS (SET send_window '" . window(-1, 1, 'Asia/Tokyo') . "'); CALL contactsync_run('foreground')");
is(contacts('foreground'), 21, '... until the window is open');

$node->stop;
done_testing();
