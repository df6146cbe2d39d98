# With retry_failures_every, contacts that failed for a reason that passes by itself are sent again, and no others; one at a time,
# not while the server cannot send, and without the guard taking them for too many.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $speed = 100;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed, 'contactsync.probe_interval' => '1d');

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub shop { return sql("SET SESSION AUTHORIZATION shop; SET client_min_messages = warning; $_[0]"); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until('postgres', $sql) or die "timed out waiting for $what"; return; }
sub failures { my ($name) = @_; return sql("SELECT string_agg(concat(key, ':', reason), ' ' ORDER BY key) FROM contactsync.failures WHERE server = '$name'"); }
# what is looked at once a minute is looked at soon after a reload, too
sub look { $node->reload; return; }
sub retried { my ($name) = @_; return sql("SELECT count(*) FROM contactsync.failure f JOIN contactsync.endpoint e ON e.id = f.endpoint WHERE server = '$name' AND retried_at IS NOT NULL"); }

sub prepare
{
	my ($name, %server) = @_;

	create_server($node, $sandbox, 'mailingcore', account => $name, role => 'shop',
		server => { pace => 1000, burst => 1000, batch_size => 1, max_retries => 0, refusal_guard => 0, %server });
	shop(qq{CREATE TABLE $name (id int PRIMARY KEY, email text); SELECT contactsync_watch('$name', '$name', '{"email": "email"}')});
	return;
}

sql('CREATE EXTENSION contactsync; CREATE ROLE shop; GRANT CREATE ON SCHEMA public TO shop');

# Contacts that the provider answers with nonsense fail, while it answers others.
sub strange
{
	my ($name, @ids) = @_;

	$sandbox->fault('mailingcore', { match => { account => $name, email => "c$_\@example.com" }, times => undef, action => { status => 500 } }) foreach @ids;
	return;
}

prepare('never');
prepare('hourly', retry_failures_every => '1h');
prepare('often', retry_failures_every => '1s');
foreach my $name (qw(never hourly often))
{
	strange($name, 2, 4);
	shop(qq{INSERT INTO $name SELECT g, format('c%s\@example.com', g) FROM generate_series(1, 5) g; INSERT INTO $name VALUES (6, 'nobody')});
	wait_until("SELECT count(*) = 3 FROM contactsync.failures WHERE server = '$name'", "the failures of $name");
	is(failures($name), '2:unavailable 4:unavailable 6:invalid_email', "$name: contacts fail while others are accepted");
}
# they fail each time that they are sent
wait_for('the contacts to be sent again', sub { look(); sql(q{SELECT min(attempts) > 1 FROM contactsync.failures WHERE server = 'often' AND reason = 'unavailable'}) eq 't' });
is(retried('hourly') . retried('never'), '00', 'nothing is sent again before its time, or without the option');
$sandbox->clear_faults('mailingcore');
wait_for('the failures to pass', sub { look(); failures('often') eq '6:invalid_email' });
is(join(' ', sort map { $_->{email} } @{ $sandbox->contacts('mailingcore', account => 'often') }), 'c1@example.com c2@example.com c3@example.com c4@example.com c5@example.com',
	'... until they are accepted');
sql(q{UPDATE contactsync.failure f SET last_at = last_at - interval '1 h' FROM contactsync.endpoint e WHERE e.id = f.endpoint AND server IN ('hourly', 'never')});
wait_for('the failures to pass', sub { look(); failures('hourly') eq '6:invalid_email' });
is(retried('never'), 0, 'without the option nothing is ever sent again');

# what is hidden, paused or held stays; a value that was corrected in between is what is sent
strange('never', 2, 4);
shop(q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures WHERE server = 'never' AND key = '4')); SELECT contactsync_pause('never', 'never')});
sql(q{UPDATE contactsync.failure f SET last_at = last_at - interval '1 h' FROM contactsync.endpoint e WHERE e.id = f.endpoint AND server = 'never'});
shop(q{ALTER SERVER never OPTIONS (ADD retry_failures_every '1s')});
look();
# a round for another server shows that it was looked at
strange('often', 7);
shop(q{INSERT INTO often SELECT g, format('c%s@example.com', g) FROM generate_series(7, 9) g});
wait_until(q{SELECT count(*) = 1 FROM contactsync.failures WHERE server = 'often' AND key = '7'}, 'another failure');
wait_for('another round', sub { look(); sql(q{SELECT attempts > 1 FROM contactsync.failures WHERE server = 'often' AND key = '7'}) eq 't' });
# those that failed first have their turn first
is(sql(q{SELECT attempts, last_at = first_at, retried_at IS NULL FROM contactsync.failure f JOIN contactsync.endpoint e ON e.id = f.endpoint WHERE server = 'often' AND f.key = '6'}),
	'1|t|t', 'a contact that failed for another reason is not sent again');
is(retried('never'), 0, 'what is paused is not sent again');
$sandbox->clear_faults('mailingcore');
shop(q{SELECT contactsync_resume('never', 'never')});
wait_for('the failures to pass', sub { look(); failures('never') eq '6:invalid_email' });
is(sql(q{SELECT count(*) FROM contactsync.failure WHERE ignored}), 1, 'what is hidden is not sent again');

# a server that cannot send has nothing queued
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER hourly OPTIONS (SET api_key 'mc_test_wrong'); ALTER SERVER hourly OPTIONS (SET retry_failures_every '1s');
	UPDATE hourly SET email = 'x' || email WHERE id = 1});
wait_until(q{SELECT state = 'halted' FROM contactsync.status WHERE server = 'hourly'}, 'a halt');
sql(q{UPDATE contactsync.failure f SET reason = 'unavailable', retried_at = NULL, last_at = now() - interval '1 h' FROM contactsync.endpoint e WHERE e.id = f.endpoint AND server IN ('hourly', 'often')});
wait_for('a round', sub { look(); retried('often') > 0 });
is(retried('hourly'), 0, 'nothing is queued for a server that is halted');

# the bulk guard is not closed by that
create_server($node, $sandbox, 'owlat', account => 'guarded', role => 'shop', server => { pace => 1000, burst => 1000, bulk_guard => 10, retry_failures_every => '1s', max_retries => 0 });
shop(q{CREATE TABLE guarded (id int PRIMARY KEY, email text); SELECT contactsync_watch('guarded', 'guarded', '{"email": "email"}');
	INSERT INTO guarded SELECT g, format('c%s@example.com', g) FROM generate_series(1, 8) g; CALL contactsync_wait('guarded')});
sql(q{INSERT INTO contactsync.failure (endpoint, watch, key, reason, attempts, first_at, last_at)
	SELECT w.endpoint, w.id, g, 'unavailable', 1, now() - interval '1 h', now() - interval '1 h' FROM contactsync.watch w, generate_series(1, 40) g WHERE w.source = 'guarded'::regclass});
wait_for('a round', sub { look(); retried('guarded') > 0 || failures('guarded') eq '' });
cmp_ok(sql(q{SELECT count(*) FROM contactsync.failure f JOIN contactsync.endpoint e ON e.id = f.endpoint WHERE server = 'guarded' AND retried_at IS NULL}), '>=', 30, 'few are queued at once');
is(sql(q{SELECT state <> 'guarded' FROM contactsync.status WHERE server = 'guarded'}), 't', '... so that no guard holds them');

# contactsync_run() does it, too
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->stop;
$node->start;
sql(q{UPDATE contactsync.failure f SET key = '3', reason = 'unreadable_answer', retried_at = NULL, last_at = now() - interval '1 h' FROM contactsync.endpoint e WHERE e.id = f.endpoint AND server = 'often'});
is(failures('often'), '3:unreadable_answer', 'a failure');
$node->psql('postgres', q{SET SESSION AUTHORIZATION shop; CALL contactsync_run('often')});
is(failures('often'), '', 'contactsync_run() sends it again');

$node->stop;
done_testing();
