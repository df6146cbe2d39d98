# contactsync_pull() retrieves contacts that changed at MailingCore; an opt-out there is not overwritten. It is called by a role
# that owns only the server.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '');

my $as_shop = 'SET SESSION AUTHORIZATION shop;';

# Run a statement as a superuser, run one as the plain role, and return the messages for the latter.
sub sql { return $node->safe_psql('postgres', "SET client_min_messages = error; $_[0]"); }
sub shop { return sql("$as_shop $_[0]"); }
sub complaint { my (undef, undef, $err) = $node->psql('postgres', "$as_shop $_[0]"); return $err; }
sub opt_in { my ($email) = @_; my ($c) = grep { $_->{email} eq $email } @{ $sandbox->contacts('mailingcore', account => 'pull') }; return $c->{optIn} ? 'in' : 'out'; }
# Change a contact as a person would on the hosted page, long after the last call.
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
is(shop(q{SELECT contactsync_pull('pull')}), '0', 'nothing is pulled from an empty account');

# contacts that exist only at the provider: an opt-out there takes precedence over the source
at_provider({ email => 'old@example.com', optIn => \0, locale => 'es', attributes => { firstName => 'Olga', plan => 'gold' } },
	{ email => 'other@example.com', externalId => '7', optIn => \0 }, map { { email => "p$_\@example.com", optIn => \1 } } 1 .. 9);
my $before = pulls();
is(shop(q{SELECT contactsync_pull('pull')}), '11', 'all contacts are pulled');
is(scalar pulls() - $before, 3, 'they are pulled in pages');
like(queries($before), qr/^limit=4&page=1 limit=4&cursor=\S+ limit=4&cursor=\S+$/, 'the pages follow the cursor');
is(shop(q{SELECT email, external_id, opt_in, locale, attributes, updated_at IS NOT NULL FROM contactsync.remote_contacts WHERE email IN ('old@example.com', 'p1@example.com') ORDER BY email}),
	qq(old\@example.com||f|es|{"plan": "gold", "firstName": "Olga"}|t\np1\@example.com||t||{}|t), 'as the provider has them');
sql(q{INSERT INTO customers VALUES (1, 'Old@Example.com ', 'Olga', true), (7, 'moved@example.com', 'Otto', true), (3, 'new@example.com', 'Nina', true), (4, 'p1@example.com', 'Pia', true)});
shop(q{CALL contactsync_run('pull')});
is(join(' ', map { opt_in($_) } qw(old@example.com moved@example.com new@example.com p1@example.com)), 'out out in in',
	'contacts who opted out there, found by address or external_id, are sent without consent; the others with it');
is(sql(q{SELECT string_agg(key, ' ' ORDER BY key) FROM contactsync.contact WHERE opted_out}), '1 7', 'the opt-outs are stored');
is(shop(q{SELECT external_id, opt_in FROM contactsync_export('customers', 'pull') ORDER BY external_id}), "1|\n3|t\n4|t\n7|", 'an export respects the opt-outs');

# contacts that were sent with consent, and opted out since
at_provider({ email => 'new@example.com', optIn => \0 });
$before = pulls();
sql(q{UPDATE contactsync.endpoint SET pulled_until = (SELECT max(updated_at) + interval '1 min 1 ms' FROM contactsync.remote_contact)});
is(shop(q{SELECT contactsync_pull('pull') BETWEEN 1 AND 5}), 't', 'the next pull retrieves only changes');
sql(q{UPDATE contactsync.endpoint SET pulled_until = (SELECT max(updated_at) FROM contactsync.remote_contact)});
like(queries($before), qr/updatedSince=\d{4}-\d\d-\d\dT\d\d%3A\d\d%3A\d\d\.\d{3}Z/, 'it starts at the newest change seen before');
sql(q{UPDATE customers SET first_name = first_name || '!'});
shop(q{CALL contactsync_run('pull')});
is(opt_in('new@example.com'), 'out', 'an opt-out there is not overwritten');
is((grep { $_->{email} eq 'new@example.com' } @{ $sandbox->contacts('mailingcore', account => 'pull') })[0]{attributes}{firstName}, 'Nina!', 'other fields are updated');
is(join(' ', grep { $_ eq 'resubscribed' } map { $_->{kind} // $_->{event} // '' } @{ $sandbox->events('mailingcore', account => 'pull') }), '', 'no contact is subscribed again');

# a new decision of the person, here or there
sql(q{INSERT INTO customers VALUES (5, 'five@example.com', 'Fay', true)});
shop(q{CALL contactsync_run('pull')});
sql(q{UPDATE customers SET opt_in = false WHERE id IN (3, 5)});
shop(q{CALL contactsync_run('pull')});
is(shop(q{SELECT contactsync_pull('pull') >= 0}), 't', 'contacts that we sent are pulled as well');
is(sql(q{SELECT opted_out FROM contactsync.contact WHERE key = '5'}), 'f', 'our own write is not an opt-out');
is(sql(q{SELECT opted_out FROM contactsync.contact WHERE key = '3'}), 't', 'nor does it end one that was pulled');
sql(q{UPDATE customers SET opt_in = true WHERE id = 3});
shop(q{CALL contactsync_run('pull')});
is(opt_in('new@example.com'), 'in', 'a consent withdrawn here can be given again here');
at_provider({ email => 'old@example.com', optIn => \1 });
shop(q{SELECT contactsync_pull('pull')});
is(sql(q{SELECT opted_out FROM contactsync.contact WHERE key = '1'}), 'f', 'an opt-in there ends the opt-out');
sql(q{UPDATE customers SET opt_in = NULL WHERE id = 4});
shop(q{CALL contactsync_run('pull')});
at_provider({ email => 'p1@example.com', optIn => \0 });
shop(q{SELECT contactsync_pull('pull')});
is(sql(q{SELECT opted_out FROM contactsync.contact WHERE key = '4'}), 't', 'a contact that we sent without consent can opt out there');

# a pull that fails stores nothing, and does not advance the watermark
at_provider(map { { email => "q$_\@example.com", optIn => \1 } } 1 .. 9);
my $until = sql(q{SELECT pulled_until FROM contactsync.endpoint});
$sandbox->fault('mailingcore', { match => { account => 'pull', method => 'GET', nth => 2 }, times => undef, action => { status => 403 } });
like(complaint(q{SELECT contactsync_pull('pull')}), qr/ERROR:  could not pull from server "pull": HTTP 403/, 'a failed page is an error');
is(sql(q{SELECT pulled_until FROM contactsync.endpoint}) . shop(q{SELECT count(*) FROM contactsync.remote_contacts WHERE email LIKE 'q%'}), "${until}0", 'the watermark does not advance');
$sandbox->clear_faults('mailingcore');
$sandbox->fault('mailingcore', { match => { account => 'pull' }, action => { status => 429, retry_after => '0' } });
cmp_ok(shop(q{SELECT contactsync_pull('pull')}), '>=', 9, 'the next pull starts at the last complete one');
isnt(sql(q{SELECT pulled_until FROM contactsync.endpoint}), $until, 'a complete pull advances the watermark');
$sandbox->fault('mailingcore', { match => { account => 'pull' }, action => { status => 200, body => '{"x": 1}' } });
like(complaint(q{SELECT contactsync_pull('pull')}), qr/the answer is not in the documented format/, 'an answer that cannot be read is an error');

# pages by number
$sandbox->config('mailingcore', { account => 'pull', cursor_under => undef });
sql(q{ALTER SERVER pull OPTIONS (ADD pull_mode 'page'); UPDATE contactsync.endpoint SET pulled_until = NULL; DELETE FROM contactsync.remote_contact});
$before = pulls();
my $all = scalar @{ $sandbox->contacts('mailingcore', account => 'pull') };
is(shop(q{SELECT contactsync_pull('pull')}), $all, 'all contacts are pulled by page as well');
like(queries($before), qr/^limit=4&page=1 limit=4&page=2( limit=4&page=\d)+$/, 'the pages are numbered');

# privileges
like((($node->psql('postgres', q{CREATE ROLE other; GRANT USAGE ON FOREIGN SERVER pull TO other; SET ROLE other; SELECT * FROM contactsync.remote_contact}))[2]), qr/permission denied for table remote_contact/, 'the table cannot be read');
is(sql(q{SET ROLE other; SELECT count(*) FROM contactsync.remote_contacts}), '0', 'the view shows each role its own rows');
like((($node->psql('postgres', q{SET ROLE other; SELECT contactsync_pull('pull')}))[2]), qr/ERROR:  .*user mapping/, 'the key of another role cannot be used');
is(sql(q{SELECT string_agg(role::text, ' ') FROM contactsync.endpoint}), 'shop', 'pulled contacts belong only to the role that pulled');
create_server($node, $sandbox, 'owlat', role => 'shop');
like(complaint(q{SELECT contactsync_pull('owlat')}), qr/ERROR:  Owlat cannot list the contacts that changed/, 'pull is rejected for other providers');
sql(q{DROP SERVER pull CASCADE});
is(sql(q{SELECT count(*) FROM contactsync.remote_contact}), '0', 'pulled contacts are deleted with the server');

$node->stop;
done_testing();
