# contactsync_pull() brings what changed at MailingCore, and an opt-out there is not overwritten. It is called by a role
# that owns nothing but the server.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '');

my $as_shop = 'SET SESSION AUTHORIZATION shop;';

# As a superuser, as the plain role, and what the latter is told.
sub sql { return $node->safe_psql('postgres', "SET client_min_messages = error; $_[0]"); }
sub shop { return sql("$as_shop $_[0]"); }
sub complaint { my (undef, undef, $err) = $node->psql('postgres', "$as_shop $_[0]"); return $err; }
sub opt_in { my ($email) = @_; my ($c) = grep { $_->{email} eq $email } @{ $sandbox->contacts('mailingcore', account => 'pull') }; return $c->{optIn} ? 'in' : 'out'; }
# What a person does at the hosted page, long after whatever was sent.
sub at_provider { my (@contacts) = @_; sql(q{UPDATE contactsync.contact SET synced_at = synced_at - interval '1 hour'}); return $sandbox->call('POST', 'mailingcore/contacts', { account => 'pull', contacts => \@contacts }); }
sub pulls { return grep { $_->{method} eq 'GET' } @{ $sandbox->journal('mailingcore', account => 'pull') }; }
sub queries { my ($from) = @_; my @pulls = pulls(); return join(' ', map { $_->{path} =~ s/.*\?//r } @pulls[ $from .. $#pulls ]); }

sql(q{
	CREATE EXTENSION contactsync;
	CREATE ROLE shop;
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text, opt_in bool);
	GRANT SELECT, TRIGGER ON customers TO shop;
});
create_server($node, $sandbox, 'mailingcore', account => 'pull', role => 'shop', server => { pull_page => 4 });
shop(q{
	SELECT contactsync_watch('customers', 'pull', '{"email": "email", "external_id": "id", "first_name": "first_name", "opt_in": "opt_in"}');
});
is(shop(q{SELECT contactsync_pull('pull')}), '0', 'nothing there, nothing comes');

# known at the provider only: an opt-out there comes before what the source says
at_provider({ email => 'old@example.com', optIn => \0, locale => 'es', attributes => { firstName => 'Olga', plan => 'gold' } },
	{ email => 'other@example.com', externalId => '7', optIn => \0 }, map { { email => "p$_\@example.com", optIn => \1 } } 1 .. 9);
my $before = pulls();
is(shop(q{SELECT contactsync_pull('pull')}), '11', 'all contacts come');
is(scalar pulls() - $before, 3, 'in pages');
like(queries($before), qr/^limit=4&page=1 limit=4&cursor=\S+ limit=4&cursor=\S+$/, 'by cursor, for there is one');
is(shop(q{SELECT email, external_id, opt_in, locale, attributes, updated_at IS NOT NULL FROM contactsync.remote_contacts WHERE email IN ('old@example.com', 'p1@example.com') ORDER BY email}),
	qq(old\@example.com||f|es|{"plan": "gold", "firstName": "Olga"}|t\np1\@example.com||t||{}|t), 'as the provider has them');
sql(q{INSERT INTO customers VALUES (1, 'Old@Example.com ', 'Olga', true), (7, 'moved@example.com', 'Otto', true), (3, 'new@example.com', 'Nina', true), (4, 'p1@example.com', 'Pia', true)});
shop(q{CALL contactsync_run('pull')});
is(join(' ', map { opt_in($_) } qw(old@example.com moved@example.com new@example.com p1@example.com)), 'out out in in',
	'who opted out there, by address or external_id, is sent without consent; the others with it');
is(sql(q{SELECT string_agg(key, ' ' ORDER BY key) FROM contactsync.contact WHERE opted_out}), '1 7', 'which is known from then on');
is(shop(q{SELECT external_id, opt_in FROM contactsync_export('customers', 'pull') ORDER BY external_id}), "1|\n3|t\n4|t\n7|", 'an export knows it too');

# synced with consent, and opted out since
at_provider({ email => 'new@example.com', optIn => \0 });
$before = pulls();
sql(q{UPDATE contactsync.endpoint SET pulled_until = (SELECT max(updated_at) + interval '1 min 1 ms' FROM contactsync.remote_contact)});
is(shop(q{SELECT contactsync_pull('pull') BETWEEN 1 AND 5}), 't', 'the next pull brings what changed');
sql(q{UPDATE contactsync.endpoint SET pulled_until = (SELECT max(updated_at) FROM contactsync.remote_contact)});
like(queries($before), qr/updatedSince=\d{4}-\d\d-\d\dT\d\d%3A\d\d%3A\d\d\.\d{3}Z/, 'since the newest that came before');
sql(q{UPDATE customers SET first_name = first_name || '!'});
shop(q{CALL contactsync_run('pull')});
is(opt_in('new@example.com'), 'out', 'an opt-out there is not overwritten');
is((grep { $_->{email} eq 'new@example.com' } @{ $sandbox->contacts('mailingcore', account => 'pull') })[0]{attributes}{firstName}, 'Nina!', 'while all else is');
is(join(' ', grep { $_ eq 'resubscribed' } map { $_->{kind} // $_->{event} // '' } @{ $sandbox->events('mailingcore', account => 'pull') }), '', 'nobody was subscribed again');

# a new word of the person, here or there
sql(q{UPDATE customers SET opt_in = false WHERE id = 3});
shop(q{CALL contactsync_run('pull')});
is(shop(q{SELECT contactsync_pull('pull') >= 0}), 't', 'what we sent ourselves comes back');
is(sql(q{SELECT opted_out FROM contactsync.contact WHERE key = '3'}), 'f', 'and is no opt-out of others');
sql(q{UPDATE customers SET opt_in = true WHERE id = 3});
shop(q{CALL contactsync_run('pull')});
is(opt_in('new@example.com'), 'in', 'who withdrew consent here can give it anew');
at_provider({ email => 'old@example.com', optIn => \1 });
shop(q{SELECT contactsync_pull('pull')});
is(sql(q{SELECT opted_out FROM contactsync.contact WHERE key = '1'}), 'f', 'who opts in there again is no opt-out any more');
sql(q{UPDATE customers SET opt_in = NULL WHERE id = 4});
shop(q{CALL contactsync_run('pull')});
at_provider({ email => 'p1@example.com', optIn => \0 });
shop(q{SELECT contactsync_pull('pull')});
is(sql(q{SELECT opted_out FROM contactsync.contact WHERE key = '4'}), 't', 'who opted out after we sent nothing of it did so there');

# a pull that breaks off brings nothing, and does not move the watermark
at_provider(map { { email => "q$_\@example.com", optIn => \1 } } 1 .. 9);
my $until = sql(q{SELECT pulled_until FROM contactsync.endpoint});
$sandbox->fault('mailingcore', { match => { account => 'pull', method => 'GET', nth => 2 }, times => undef, action => { status => 403 } });
like(complaint(q{SELECT contactsync_pull('pull')}), qr/ERROR:  could not pull from server "pull": HTTP 403/, 'a page that fails is an error');
is(sql(q{SELECT pulled_until FROM contactsync.endpoint}) . shop(q{SELECT count(*) FROM contactsync.remote_contacts WHERE email LIKE 'q%'}), "${until}0", 'and nothing has moved');
$sandbox->clear_faults('mailingcore');
$sandbox->fault('mailingcore', { match => { account => 'pull' }, action => { status => 429, retry_after => '0' } });
cmp_ok(shop(q{SELECT contactsync_pull('pull')}), '>=', 9, 'the next one begins where the last complete one ended');
isnt(sql(q{SELECT pulled_until FROM contactsync.endpoint}), $until, 'and moves it');
$sandbox->fault('mailingcore', { match => { account => 'pull' }, action => { status => 200, body => '{"x": 1}' } });
like(complaint(q{SELECT contactsync_pull('pull')}), qr/the answer is of another form than documented/, 'an answer that cannot be read is an error');

# by page
$sandbox->config('mailingcore', { account => 'pull', cursor_under => undef });
sql(q{ALTER SERVER pull OPTIONS (ADD pull_mode 'page'); UPDATE contactsync.endpoint SET pulled_until = NULL; DELETE FROM contactsync.remote_contact});
$before = pulls();
my $all = scalar @{ $sandbox->contacts('mailingcore', account => 'pull') };
is(shop(q{SELECT contactsync_pull('pull')}), $all, 'all contacts come by page as well');
like(queries($before), qr/^limit=4&page=1 limit=4&page=2( limit=4&page=\d)+$/, 'by its number');

# whose it is, and whose it cannot be
like((($node->psql('postgres', q{CREATE ROLE other; GRANT USAGE ON FOREIGN SERVER pull TO other; SET ROLE other; SELECT * FROM contactsync.remote_contact}))[2]), qr/permission denied for table remote_contact/, 'nobody reads the table');
is(sql(q{SET ROLE other; SELECT count(*) FROM contactsync.remote_contacts}), '0', 'and everybody sees their own in the view');
like((($node->psql('postgres', q{SET ROLE other; SELECT contactsync_pull('pull')}))[2]), qr/ERROR:  .*user mapping/, 'nobody pulls with the key of another');
is(sql(q{SELECT string_agg(role::text, ' ') FROM contactsync.endpoint}), 'shop', 'what was pulled belongs to who pulled it, and to nobody else');
create_server($node, $sandbox, 'owlat', role => 'shop');
like(complaint(q{SELECT contactsync_pull('owlat')}), qr/ERROR:  Owlat does not tell which contacts changed/, 'not all providers can');
sql(q{DROP SERVER pull CASCADE});
is(sql(q{SELECT count(*) FROM contactsync.remote_contact}), '0', 'what was pulled goes with the server');

$node->stop;
done_testing();
