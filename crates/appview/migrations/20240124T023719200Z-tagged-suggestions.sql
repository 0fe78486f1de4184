create table "tagged_suggestion" (
  "tag" varchar not null,
  "subject" varchar not null,
  "subjectType" varchar not null,
  constraint "tagged_suggestion_pkey" primary key ("tag", "subject")
);
