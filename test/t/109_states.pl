# What contactsync.status says in each state, and that what its hint says can be typed and helps; by the role that owns it all.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.probe_interval' => '1s');
my %fast = (pace => 1000, burst => 1000);

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }

sub status { my ($server, $columns) = @_; return sql(qq{SELECT $columns FROM contactsync.status WHERE server = '$server' AND source IS NOT NULL}); }

sub wait_for_status
{
	my ($server, $condition) = @_;

	$node->poll_query_until('postgres', qq{SELECT bool_and($condition) FROM contactsync.status WHERE server = '$server' AND source IS NOT NULL})
	  or die "timed out waiting for $server to be $condition, but it is " . status($server, 'state, backlog, reason, hint');
	return;
}

# Create a server and a watched table of the same name.
sub make
{
	my ($name, $provider, %param) = @_;
	my $watch = delete $param{watch} // '';
	my $rows = delete $param{rows} // 0;
	my $fields = { campaignlark => ', "opt_in": "false"', mailingcore => ', "external_id": "id"', spotzee => ', "external_id": "id"' }->{$provider} // '';

	create_server($node, $sandbox, $provider, account => $name, role => 'shop', %param, server => { %fast, %{ $param{server} // {} } });
	sql(qq{CREATE TABLE "$name" (id int PRIMARY KEY, email text); INSERT INTO "$name" SELECT g, 'r' || g || '\@example.com' FROM generate_series(1, $rows) g;
		SELECT contactsync_watch('"$name"', '$name', '{"email": "email"$fields}'$watch)});
	return;
}

my $n = 0;
sub change { my ($name, $id) = @_; sql(qq{INSERT INTO "$name" (id, email) VALUES (} . ($id // ++$n) . qq{, 'a$n$name\@example.com')}); return; }

# Type the statements in the hint of a server, with these values for '...', and leave out alternatives for which there is no
# value. Return the number of statements.
sub type
{
	my ($name, @values) = @_;
	my $hint = status($name, 'hint');
	my @statements = $hint =~ /(SELECT contactsync_\w+\([^;]*\)|SELECT \* FROM contactsync\.\w+(?: ORDER BY id DESC)?|(?:ALTER|CREATE) (?:SERVER|USER MAPPING) [^(]*OPTIONS \([^)]*\))/g;

	my $typed = 0;

	foreach my $statement (@statements)
	{
		next if $statement =~ /'\.\.\.'/ && !@values;
		$statement =~ s/'\.\.\.'/quote_literal(shift @values)/ge;
		sql($statement);
		$typed++;
	}
	return $typed;
}

$node->safe_psql('postgres', 'CREATE EXTENSION contactsync; CREATE ROLE shop LOGIN; GRANT ALL ON SCHEMA public TO shop');

# an import
make('import', 'mailingcore', server => { batch_size => 10, concurrency => 2 }, watch => q{, on_delete => 'delete', delete_delay => '0', delete_guard => 'off'});
$sandbox->fault('mailingcore', { match => { account => 'import' }, times => undef, action => { stall => \1 } });
sql(q{SELECT contactsync_pause('import'); INSERT INTO import SELECT g, 'i' || g || '@example.com' FROM generate_series(1, 200) g});
$node->safe_psql('postgres', 'DELETE FROM contactsync.queue');
sql(q{SELECT contactsync_resume('import'); SELECT contactsync_import('import', 'import')});
wait_for_status('import', q{in_flight > 0 AND reason IS NOT NULL});
like(status('import', 'state, reason, hint'), qr/^running\|import: \d+ % of 200 rows read\|$/, 'an import shows as such, with its progress');
my (undef, undef, $notice) = $node->psql('postgres', q{CALL contactsync_wait('import', '5 s')}, extra_params => [ '-U', 'shop' ]);
like($notice, qr{NOTICE: +0/200  0 %.*timed out with 200 contacts still queued}s, 'what is waited for are outcomes');
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('import')});
is(status('import', 'state, reason, backlog, synced, hint'), 'idle||0|200|', 'and all is well after it');

# removals
$sandbox->fault('mailingcore', { match => { account => 'import' }, times => undef, action => { stall => \1 } });
sql(q{DELETE FROM import WHERE id <= 30});
wait_for_status('import', 'backlog = 30 AND in_flight > 0');
pass('contacts that are to be removed are counted');
is(sql(q{SELECT total FROM contactsync.progress WHERE server = 'import' AND kind = 'backlog'}), '30', 'also in the progress');
(undef, undef, $notice) = $node->psql('postgres', q{CALL contactsync_wait('import', '5 s')}, extra_params => [ '-U', 'shop' ]);
like($notice, qr{NOTICE: +0/30  0 %.*timed out with 30 contacts still queued}s, 'and waited for');
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('import')});

# paused
change('import', 1000);
sql(q{SELECT contactsync_pause('import'), contactsync_pause('import', 'import')});
wait_for_status('import', q{state = 'paused'});
is(type('import') . type('import'), '11', 'paused: there is something to type, for the server and for the watch');
wait_for_status('import', q{state = 'idle' AND hint IS NULL});

# broken
sql(q{ALTER TABLE import RENAME email TO address; ALTER TABLE import ADD mail text; UPDATE import SET mail = address; ALTER TABLE import DROP address});
wait_for_status('import', q{state = 'broken'});
is(type('import', '{"email": "mail", "external_id": "id"}'), 1, 'broken: there is something to type');
wait_for_status('import', q{state = 'idle' AND hint IS NULL});
sql(q{ALTER TABLE import RENAME mail TO email});
wait_for_status('import', q{state = 'idle' AND hint IS NULL});

# failures
sql(q{INSERT INTO import (id, email) VALUES (2000, 'nobody')});
wait_for_status('import', 'failures = 1');
sql(q{ALTER TABLE import DISABLE TRIGGER USER; UPDATE import SET email = 'somebody@example.com' WHERE id = 2000; ALTER TABLE import ENABLE TRIGGER USER});
is(type('import'), 2, 'failures: there is something to type');
wait_for_status('import', q{state = 'idle' AND failures = 0 AND hint IS NULL});

# throttled, unavailable
$sandbox->fault('mailingcore', { match => { account => 'import' }, times => undef, action => { status => 429, headers => { 'Retry-After' => '60' } } });
change('import');
wait_for_status('import', q{state = 'throttled'});
$sandbox->clear_faults('mailingcore');
is(type('import', '100'), 1, 'throttled: there is something to type');
wait_for_status('import', q{state = 'idle' AND hint IS NULL});
sql(q{ALTER SERVER import OPTIONS (SET pace '1000')});
$sandbox->fault('mailingcore', { match => { account => 'import' }, times => undef, action => { status => 503 } });
change('import');
wait_for_status('import', q{state = 'unavailable'});
is(type('import'), 1, 'unavailable: there is something to type');
$sandbox->clear_faults('mailingcore');
wait_for_status('import', q{state = 'idle' AND hint IS NULL});

# halted by what the hint cannot know: it ends by itself, or with the right URL
(my $url = $sandbox->url) .= '/mailingcore';
foreach my $case (
	[ 403, 'forbidden' ],
	[ 402, 'quota_exceeded' ],
	[ 406, 'request_refused' ],
	[ 404, 'wrong_url', $url ],
	[ 302, 'redirected', $url, headers => { Location => 'https://elsewhere.example.com/' } ])
{
	my ($status, $reason, $value, %more) = @$case;

	$sandbox->fault('mailingcore', { match => { account => 'import' }, times => undef, action => { status => $status, %more } });
	change('import');
	wait_for_status('import', qq{state = 'halted' AND reason LIKE '$reason: %' AND hint IS NOT NULL});
	$sandbox->clear_faults('mailingcore');
	type('import', $value // ()) if $value;
	wait_for_status('import', q{state = 'idle' AND hint IS NULL});
	pass("$reason: delivery goes on");
}

# halted, by provider: the key, the URL, the account
foreach my $provider (qw(caramel owlat spotzee mailingcore campaignlark))
{
	# the length of a key counts at Owlat
	my $name = $provider eq 'owlat' ? 'owlet77' : $provider;

	make($name, $provider, server => $provider eq 'caramel' ? { token_url => $sandbox->url . '/caramel/token', client_id => 'client_sandbox' } : {});
	$sandbox->config('caramel', { account => 'caramel', refresh_tokens => { rt_caramel => {} } }) if $provider eq 'caramel';
	my $base_url = sql(qq{SELECT option_value FROM pg_foreign_server, pg_options_to_table(srvoptions) WHERE srvname = '$name' AND option_name = 'base_url'});
	my @options = split /\n/, $node->safe_psql('postgres', qq{SELECT option_name || '=' || option_value FROM pg_user_mapping m JOIN pg_foreign_server s ON s.oid = m.umserver, pg_options_to_table(umoptions) WHERE srvname = '$name'});
	my ($option, $key) = split /=/, $options[0], 2;

	sql(qq{ALTER USER MAPPING FOR CURRENT_USER SERVER "$name" OPTIONS (SET $option 'invalid')});
	change($name);
	wait_for_status($name, qq{state = 'halted' AND reason LIKE 'unauthorized: %'});
	cmp_ok(type($name, $key, 'rt_caramel'), '>=', 1, "$provider: a wrong key: there is something to type");
	wait_for_status($name, q{state = 'idle' AND hint IS NULL});

	sql(qq{DROP USER MAPPING FOR CURRENT_USER SERVER "$name"});
	change($name);
	wait_for_status($name, qq{state = 'halted' AND reason LIKE 'configuration: %'});
	my ($create) = status($name, 'reason') =~ /(CREATE USER MAPPING [^)]*\))/;
	sql($create =~ s/'\.\.\.'/quote_literal($key)/er);
	wait_for_status($name, q{state = 'idle' AND hint IS NULL});
	pass("$provider: no key: the reason can be typed");

	sql(qq{ALTER SERVER "$name" OPTIONS (SET base_url '} . $sandbox->url . q{/nowhere')});
	change($name);
	wait_for_status($name, q{state = 'halted'});
	cmp_ok(type($name, $base_url), '>=', 1, "$provider: a wrong URL: there is something to type");
	wait_for_status($name, q{state = 'idle' AND hint IS NULL});
}

# halted by what the account does not allow: each is caused as the provider would, its reason and hint are read, what the hint says
# is done, and delivery goes on
foreach my $case (
	{   name => 'scopemc', provider => 'mailingcore', reason => qr/^missing_scope: .*contacts:write/, hint => qr/scope that the reason names/,
		break => sub { { keys => { mc_test_scopemc => { scopes => ['contacts:read'] } } } },
		repair => sub { { keys => { mc_test_better => { scopes => [ 'contacts:read', 'contacts:write' ] } } } },
		type => ['mc_test_better'] },
	{   name => 'scopeowlat', provider => 'owlat', reason => qr/^missing_scope: .*scope/, hint => qr/scope that the reason names/,
		break => sub { { keys => { lm_live_scopeowlat0000000000000000000000000 => { scopes => ['contacts:read'] } } } },
		repair => sub { { keys => { lm_live_betterowlat00000000000000000000000 => { scopes => [ 'contacts:read', 'contacts:write' ] } } } },
		type => ['lm_live_betterowlat00000000000000000000000'] },
	{   name => 'scopecar', provider => 'caramel', reason => qr/^missing_scope: /, hint => qr/scope that the reason names/,
		break => sub { { keys => { caramel_scopecar => { scopes => ['meta:read'] } } } },
		repair => sub { { keys => { caramel_better => { scopes => ['audience:write'] } }, refresh_tokens => { rt_better => {} } } },
		type => [ 'caramel_better', 'rt_better' ],
		server => sub { { token_url => $sandbox->url . '/caramel/token', client_id => 'client_sandbox' } } },
	{   name => 'tenantmc', provider => 'mailingcore', reason => qr/^wrong_tenant: /, hint => qr/ID of the account/,
		alter => q{SET tenant_id 'clx_other'}, type => [ 'tenantmc', 'mc_test_tenantmc' ] },
	{   name => 'tenantcar', provider => 'caramel', reason => qr/^wrong_tenant: check the option business_id/, hint => qr/ID of the account/,
		alter => q{SET business_id 'bus_other'}, type => [ 'bus_01h7m9k0aabcdefghj1234567', 'caramel_tenantcar', 'rt_tenantcar' ],
		repair => sub { { refresh_tokens => { rt_tenantcar => {} } } },
		server => sub { { token_url => $sandbox->url . '/caramel/token', client_id => 'client_sandbox' } } },
	{   name => 'addresslark', provider => 'campaignlark', reason => qr/^address_not_allowed: /, hint => qr/^Allow the address of this machine for the key/,
		break => sub { { keys => { cl_addresslark => { addresses => ['192.0.2.1'] } } } },
		repair => sub { { keys => { cl_addresslark => { addresses => undef } } } } },
	{   name => 'plancar', provider => 'caramel', reason => qr/^plan_too_low: /, hint => qr/^Upgrade the plan/,
		break => sub { { businesses => { bus_01h7m9k0aabcdefghj1234567 => { subscription_tier => 'growth' } } } },
		repair => sub { { businesses => { bus_01h7m9k0aabcdefghj1234567 => { subscription_tier => 'business' } } } } },
	{   name => 'topicowlat', provider => 'owlat', reason => qr/^unknown_topic: /, hint => qr/^Create the topic at the provider, or set another one/,
		alter => q{ADD topic_id 'topicunknown00000000000000000000'}, opt_in => 'true', type => ['topicsingle000000000000000000000'] },
	{   name => 'formcar', provider => 'caramel', reason => qr/^unknown_form: check the option form_id/, hint => qr/^Create the form at the provider, or set another one/,
		alter => q{ADD route 'form', ADD form_sets_consent 'true', ADD form_id 'frm_unknown'}, opt_in => 'true', type => ['frm_import'] })
{
	my ($name, $provider) = @$case{ 'name', 'provider' };

	make($name, $provider, server => $case->{server} ? $case->{server}->() : {});
	sql(qq{ALTER SERVER $name OPTIONS ($case->{alter})}) if $case->{alter};
	sql(qq{SELECT contactsync_alter_watch('$name', '$name', mapping => (SELECT mapping || '{"opt_in": "$case->{opt_in}"}' FROM contactsync.watches WHERE server = '$name'), claims => 'all')})
	  if $case->{opt_in};
	$sandbox->config($provider, { account => $name, %{ $case->{break}->() } }) if $case->{break};
	change($name);
	wait_for_status($name, q{state = 'halted'});
	like(status($name, 'reason'), $case->{reason}, "$name: the reason");
	like(status($name, 'hint'), $case->{hint}, "$name: the hint");
	is(status($name, 'backlog, failures'), '1|0', "$name: nothing is given up on");
	$sandbox->config($provider, { account => $name, %{ $case->{repair}->() } }) if $case->{repair};
	cmp_ok(type($name, @{ $case->{type} }), '>=', 1, "$name: there is something to type") if $case->{type};
	wait_for_status($name, q{state = 'idle' AND hint IS NULL AND synced = 1});
	is(scalar @{ $sandbox->contacts($provider, account => $name) }, 1, "$name: delivery goes on");
}

# halted because a web page answers
make('page', 'mailingcore');
$sandbox->fault('mailingcore', { match => { account => 'page' }, times => undef, action => { status => 200, html => '<html><title>Log in to the hotel</title>' } });
change('page');
wait_for_status('page', q{state = 'halted'});
like(status('page', 'reason'), qr/^not_the_api: a web page answers instead of MailingCore \(status 200, "Log in to the hotel"\)/, 'a web page: the reason');
like(status('page', 'hint'), qr/^A web page answers instead of the API\. Check the proxy, or correct the URL: ALTER SERVER/, 'a web page: the hint');
is(type('page', $url), 1, 'a web page: there is something to type');
$sandbox->clear_faults('mailingcore');
wait_for_status('page', q{state = 'idle' AND hint IS NULL AND synced = 1});

# held: many contacts could get mail, or would be removed
make('held', 'caramel', server => { bulk_guard => 5 });
sql(q{INSERT INTO held SELECT g, 'h' || g || '@example.com' FROM generate_series(1, 20) g});
wait_for_status('held', q{state = 'guarded'});
is(type('held'), 1, 'guarded, many contacts could get mail: there is something to type');
wait_for_status('held', q{state = 'idle' AND hint IS NULL AND synced = 20});
make('removed', 'mailingcore', rows => 20, watch => q{, on_delete => 'delete', delete_delay => '0', delete_guard => '5'});
sql(q{UPDATE removed SET email = 'x' || email; CALL contactsync_wait('removed')});
sql(q{DELETE FROM removed WHERE id = 1});
wait_for_status('removed', q{hint LIKE '%contactsync_reconcile%'});
like(status('removed', 'reason'), qr/^removals wait until all rows were read once/, 'a removal waits until all rows were read');
is(type('removed'), 1, 'and there is something to type');
wait_for_status('removed', q{state = 'idle' AND hint IS NULL});
$sandbox->wait_for_contacts('mailingcore', 19, account => 'removed');
sql(q{DELETE FROM removed WHERE id <= 15});
wait_for_status('removed', q{state = 'guarded'});
is(type('removed'), 1, 'guarded, many contacts would be removed: there is something to type');
wait_for_status('removed', q{state = 'idle' AND hint IS NULL});
is(scalar @{ $sandbox->contacts('mailingcore', account => 'removed') }, 19, 'and nobody is removed');

# a worker that ends with an error again and again
$node->safe_psql('postgres', q{ALTER TABLE contactsync.endpoint RENAME unlearnable TO unknown; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});
$node->poll_query_until('postgres', q{SELECT bool_and(worker = 'restarting after an error') FROM contactsync.status}) or die 'timed out waiting for a pause of the worker';
my $hint = status('import', 'hint');
$node->safe_psql('postgres', q{ALTER TABLE contactsync.endpoint RENAME unknown TO unlearnable});
like($hint, qr/server log/, 'a worker that failed: the hint names the log');
unlike($hint, qr/max_worker_processes/, 'and not a setting that has nothing to do with it');
change('import', 3000);
my ($call) = $hint =~ /(CALL contactsync_run\(\))/;
sql($call);
is(status('import', 'backlog'), '0', 'what the hint says delivers meanwhile');
$node->poll_query_until('postgres', q{SELECT bool_and(worker = 'running' AND hint IS NULL) FROM contactsync.status}) or die 'timed out waiting for the worker';
pass('and the worker returns');

# no worker, because there are more databases, or fewer processes, than it takes
$node->safe_psql('postgres', 'CREATE DATABASE more; GRANT ALL ON DATABASE more TO shop');
$node->safe_psql('more', 'GRANT ALL ON SCHEMA public TO shop');
create_server($node, $sandbox, 'mailingcore', account => 'more', role => 'shop', dbname => 'more', server => \%fast);
sub more { my ($sql, %param) = @_; return $node->safe_psql('more', $sql, extra_params => [ '-U', 'shop' ], %param); }
more(q{CREATE TABLE more (id int PRIMARY KEY, email text); SELECT contactsync_watch('more', 'more', '{"email": "email"}')});
foreach my $case ([ 'too many databases', 'contactsync.max_databases', 1 ], [ 'too few processes', 'max_worker_processes', 2 ])
{
	my ($worker, $setting, $limit) = @$case;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = $limit");
	$node->stop;
	$node->start;
	$node->poll_query_until('more', qq{SELECT bool_and(worker = '$worker') FROM contactsync.status}) or die "timed out waiting for $worker";
	more(q{INSERT INTO more SELECT coalesce(max(id), 0) + 1, 'm' || count(*) || '@example.com' FROM more});
	my (undef, undef, $error) = $node->psql('more', q{CALL contactsync_wait('more')}, extra_params => [ '-U', 'shop' ]);
	like($error, qr/no background worker can be started for this database.*contactsync_run/s, "$worker: waiting is of no use");
	my $hint = more(q{SELECT DISTINCT hint FROM contactsync.status WHERE source IS NOT NULL});
	my ($alter) = $hint =~ /(ALTER SYSTEM SET \Q$setting\E = \d+)/ or die "nothing to type in: $hint";
	my ($call) = $hint =~ /(CALL contactsync_run\(\))/ or die "nothing to type in: $hint";
	more($call);
	is(more('SELECT backlog, worker FROM contactsync.status WHERE source IS NOT NULL'), "0|$worker", "$worker: the call in the hint delivers");
	$node->safe_psql('postgres', $alter);
	$node->stop;
	$node->start;
	$node->poll_query_until('more', q{SELECT bool_and(worker = 'running' AND hint IS NULL) FROM contactsync.status}) or die "timed out waiting for the worker after $alter";
	pass("$worker: the setting in the hint brings the worker");
}

$node->stop;
done_testing();
