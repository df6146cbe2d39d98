"""People whose consent is one field of their contacts."""


class ConsentFlag:
    """For a Provider beside it: whom it mails, and what people do there."""

    flag = ""                 # the field
    wanted = True             # its value where the person wants mail; the other one is a no
    mailing = "campaigns"     # what reaches people

    def reach(self, account, address):
        return {self.mailing for contact in self.contacts_of(account, address) if contact[self.flag] is self.wanted}

    def says_no(self, fields):
        return fields.get(self.flag) is (not self.wanted)

    def opt_out(self, account, address):
        for contact in self.contacts_of(account, address):
            self.touch(account, contact, **{self.flag: not self.wanted})

    def complain(self, account, address):
        self.opt_out(account, address)

    def opt_in(self, account, address):
        for contact in self.signed_up(account, address):
            self.touch(account, contact, **{self.flag: self.wanted})
