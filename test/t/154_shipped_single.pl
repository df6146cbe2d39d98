# The shipped definitions of services that take one contact a call, in several steps.

use strict;
use warnings;

use JSON::PP;
use Shipped;
use Test::More;

start_shipped(qw(activecampaign listmonk resend));
my $url = $sandbox->url;

sub found { my ($provider, $email) = @_; return (grep { $_->{email} eq $email } @{ $sandbox->contacts($provider, account => $provider) })[0]; }
sub steps { my ($provider, $email) = @_; return join(' ', map { "$_->{method} $_->{status}" } journal($provider, $provider)); }

# listmonk, which is one's own
$sandbox->config('listmonk', { account => 'listmonk', keys => { 'sync:t0ken' => {} } });
create('listmonk', "base_url '$url/listmonk', list_id '1'", "username 'sync', password 't0ken'");
$sandbox->call('POST', 'listmonk/contacts', { account => 'listmonk', contacts => [ { email => 'left@example.com', lists => { 1 => 'confirmed', 9 => 'confirmed' } } ] });
$sandbox->call('POST', 'listmonk/people', { account => 'listmonk', email => 'left@example.com', act => 'opt_out' });
people('listmonk', '{"email": "email", "first_name": "name", "opt_in": "wants", "attributes": {"plan": "plan"}}');
is_deeply([ @{ found('listmonk', 'yes@example.com') }{qw(name attribs lists)} ], [ 'Yes', { plan => 'pro' }, { 1 => 'confirmed' } ], 'listmonk: a subscriber');
is(found('listmonk', 'silent@example.com')->{name}, 'silent@example.com', 'listmonk: who has no name is called by the address');
is_deeply(found('listmonk', 'left@example.com')->{lists}, { 1 => 'unsubscribed', 9 => 'unsubscribed' }, 'listmonk: lists of who is there are left alone');
is(app(q{SELECT count(*) FROM contactsync.opt_outs WHERE server = 'listmonk' AND email = 'left@example.com'}), '1', 'listmonk: an opt-out that an answer shows is known here');
check_consent('listmonk', 'listmonk', 'email');
is(resubscribed('listmonk', 'listmonk'), 1, 'listmonk: only the word subscribed somebody again');
# an address is a text, whatever is in it
settle('listmonk', q{INSERT INTO listmonk VALUES (5, 'o''hara@example.com', 'O''Hara', true, 'x'' OR ''1''=''1')});
is(found('listmonk', q{o'hara@example.com})->{attribs}{plan}, q{x' OR '1'='1}, 'listmonk: a quote stays in its place');
settle('listmonk', q{UPDATE listmonk SET plan = 'basic' WHERE id = 5});
is(found('listmonk', q{o'hara@example.com})->{attribs}{plan}, 'basic', 'listmonk: and is found by it');
# a word does not lift a blocklisting
$sandbox->call('POST', 'listmonk/people', { account => 'listmonk', email => q{o'hara@example.com}, act => 'complain' });
settle('listmonk', q{UPDATE listmonk SET wants = false WHERE id = 5});
settle('listmonk', q{UPDATE listmonk SET wants = true WHERE id = 5});
is(mailable('listmonk', 'listmonk')->{q{o'hara@example.com}}, '-', 'listmonk: who is blocklisted stays so');
# a contact that is refused fails alone; one that came about meanwhile is looked up again
$sandbox->fault('listmonk', { match => { account => 'listmonk', method => 'POST' }, times => undef, action => { reject_items => { 'n7@example.com' => { message => 'Invalid email.' } } } });
settle('listmonk', q{INSERT INTO listmonk SELECT n, format('n%s@example.com', n), 'N', n % 2 = 0, NULL FROM generate_series(6, 25) n});
is(app(q{SELECT string_agg(key || ' ' || reason, ', ') FROM contactsync.failures WHERE server = 'listmonk'}), '7 invalid_email', 'listmonk: a contact fails alone');
app(q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))});
$sandbox->clear_faults('listmonk');
$sandbox->fault('listmonk', { match => { account => 'listmonk', method => 'POST' }, times => 1, effect => 'after', action => { status => 503 } });
settle('listmonk', q{INSERT INTO listmonk VALUES (30, 'twice@example.com', 'Twice', true, NULL)});
is((scalar grep { $_->{email} eq 'twice@example.com' } @{ $sandbox->contacts('listmonk', account => 'listmonk') }), 1, 'listmonk: who was created by a lost call is found');
is(app(q{SELECT bool_or(result = 'ok') FROM contactsync_verify('listmonk')}), 't', 'listmonk: contacts are read back and compared');
cmp_ok(app(q{SELECT contactsync_pull('listmonk')}), '>', 10, 'listmonk: subscribers that changed are listed');
check_errors('listmonk', 'listmonk', 'password', 't0ken');

# Resend, at its own pace at first
$sandbox->config('resend', { account => 'resend', keys => { re_key => {} }, audiences => ['aud1'] });
create('resend', "base_url '$url/resend', audience_id 'aud1'", "api_key 're_key'");
app(q{ALTER SERVER resend OPTIONS (DROP pace, DROP burst)});
$sandbox->call('POST', 'resend/contacts', { account => 'resend', contacts => [ { email => 'left@example.com', unsubscribed => JSON::PP::true } ] });
people('resend', '{"email": "email", "first_name": "name", "opt_in": "wants"}');
is((scalar grep { $_->{status} == 429 } journal('resend', 'resend')), 0, 'resend: two calls a second are kept to');
$sandbox->config('resend', { account => 'resend', limits => { team => undef } });
app(q{ALTER SERVER resend OPTIONS (ADD pace '1000', ADD burst '1000')});
is(found('resend', 'yes@example.com')->{first_name}, 'Yes', 'resend: a contact');
ok(found('resend', 'silent@example.com')->{unsubscribed}, 'resend: who said nothing is created unsubscribed');
check_consent('resend', 'resend', 'email');
is(resubscribed('resend', 'resend'), 1, 'resend: only the word subscribed somebody again');
$sandbox->fault('resend', { match => { account => 'resend', method => 'POST' }, times => undef, action => { reject_items => { 'n7@example.com' => { message => 'Invalid `email` field.', status => 422 } } } });
settle('resend', q{INSERT INTO resend SELECT n, format('n%s@example.com', n), 'N', n % 2 = 0, NULL FROM generate_series(6, 25) n});
is(app(q{SELECT string_agg(key || ' ' || reason, ', ') FROM contactsync.failures WHERE server = 'resend'}), '7 invalid_email', 'resend: a contact fails alone');
app(q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))});
$sandbox->clear_faults('resend');
# who has gone there meanwhile is created again, and without a word not subscribed
$sandbox->call('DELETE', 'resend/contacts', undef, account => 'resend', email => 'n8@example.com');
settle('resend', q{UPDATE resend SET name = 'Back' WHERE id = 8});
is(mailable('resend', 'resend')->{'n8@example.com'}, '-', 'resend: who was removed there is not subscribed again by a change of the row');
is(app(q{SELECT bool_or(result = 'ok') FROM contactsync_verify('resend')}), 't', 'resend: contacts are read back and compared');
cmp_ok(app(q{SELECT contactsync_pull('resend')}), '>', 10, 'resend: contacts are listed');
is(app(q{SELECT count(*) FROM contactsync.opt_outs WHERE server = 'resend' AND email = 'yes@example.com'}), '1', 'resend: with opt-outs');
check_errors('resend', 'resend', 'api_key', 're_key');
# a quota halts the server
$sandbox->fault('resend', { match => { account => 'resend' }, times => undef, action => { status => 429, body => { statusCode => 429, name => 'daily_quota_exceeded', message => 'You have reached your daily quota.' } } });
app(q{UPDATE resend SET name = 'Quota' WHERE id = 1});
ok(halted('resend'), 'resend: a quota halts the server');
is(app(q{SELECT count(*) FROM contactsync.failures WHERE server = 'resend'}), '0', 'resend: and burns nothing');

# ActiveCampaign: a contact, then its status in a list
$sandbox->config('activecampaign', { account => 'activecampaign', keys => { ac_key => {} }, limits => { account => undef } });
create('activecampaign', "base_url '$url/activecampaign/api/3', account_name 'acme', list_id '2'", "api_key 'ac_key'");
$sandbox->call('POST', 'activecampaign/contacts', { account => 'activecampaign', contacts => [ { email => 'left@example.com', lists => { 2 => 1, 5 => 1 } } ] });
$sandbox->call('POST', 'activecampaign/people', { account => 'activecampaign', email => 'left@example.com', act => 'opt_out' });
people('activecampaign', '{"email": "email", "first_name": "name", "opt_in": "wants", "attributes": {"7": "plan"}}');
is_deeply([ @{ found('activecampaign', 'yes@example.com') }{qw(firstName fields lists)} ], [ 'Yes', { 7 => 'pro' }, { 2 => 1 } ], 'activecampaign: a contact');
is_deeply(found('activecampaign', 'silent@example.com')->{lists}, {}, 'activecampaign: who said nothing is in no list');
is((scalar grep { $_->{method} eq 'GET' } journal('activecampaign', 'activecampaign')), 2, 'activecampaign: who wants mail and is not known is looked up');
check_consent('activecampaign', 'activecampaign', 'email');
is(resubscribed('activecampaign', 'activecampaign'), 1, 'activecampaign: only the word subscribed somebody again');
$sandbox->fault('activecampaign', { match => { account => 'activecampaign', path => '*/sync' }, times => undef, action => { reject_items => { 'n7@example.com' => { message => 'Contact Email Address is not valid.', code => 'email_invalid', status => 422 } } } });
settle('activecampaign', q{INSERT INTO activecampaign SELECT n, format('n%s@example.com', n), 'N', n % 2 = 0, NULL FROM generate_series(6, 25) n});
is(app(q{SELECT string_agg(key || ' ' || reason || ' ' || code, ', ') FROM contactsync.failures WHERE server = 'activecampaign'}), '7 invalid_email email_invalid', 'activecampaign: a contact fails alone');
app(q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))});
$sandbox->clear_faults('activecampaign');
# the second call is lost: what was said arrives nevertheless
$sandbox->fault('activecampaign', { match => { account => 'activecampaign', path => '*/contactLists' }, times => 1, action => { status => 503 } });
settle('activecampaign', q{UPDATE activecampaign SET wants = false WHERE id = 8});
is(mailable('activecampaign', 'activecampaign')->{'n8@example.com'}, '-', 'activecampaign: a withdrawal arrives, although its call was lost');
is(app(q{SELECT bool_or(result = 'ok') FROM contactsync_verify('activecampaign')}), 't', 'activecampaign: contacts are read back and compared');
check_errors('activecampaign', 'activecampaign', 'api_key', 'ac_key');
# a custom field that is not there halts the watch, not the contacts
app(q{SELECT contactsync_alter_watch('activecampaign', 'activecampaign', mapping => '{"email": "email", "first_name": "name", "opt_in": "wants", "attributes": {"99": "plan"}}'); UPDATE activecampaign SET plan = 'x' WHERE id = 1});
ok(reaches('activecampaign', 'broken'), 'activecampaign: a custom field that does not exist breaks the watch');
is(app(q{SELECT count(*) FROM contactsync.failures WHERE server = 'activecampaign'}), '0', 'activecampaign: and fails nobody');

done_testing();
