# A model of one region: mean, user and movie effects, each shrunk towards zero by how few ratings
# it rests on (the baseline predictors of Koren, Bell and Volinsky 2009).
#
# train_regional.R --region NAME

arguments <- commandArgs(trailingOnly = TRUE)
region <- arguments[match("--region", arguments) + 1]
split <- Sys.getenv("MESON_INPUT_RATINGS")
read <- function(part) {
  all <- read.csv(file.path(split, paste0(part, ".csv")), stringsAsFactors = FALSE)
  all[all$region == region, ]
}
train <- read("train")
test <- read("test")
if (nrow(train) == 0) stop("no rating to train on in region ", region)

shrunk <- function(residual, group, weight) {
  sums <- tapply(residual, group, sum)
  counts <- tapply(residual, group, length)
  sums / (counts + weight)
}
effect <- function(effects, keys) {
  found <- effects[as.character(keys)]
  ifelse(is.na(found), 0, found)
}

mu <- mean(train$rating)
movie <- shrunk(train$rating - mu, train$movie, 5)
user <- shrunk(train$rating - mu - effect(movie, train$movie), train$user, 10)
prediction <- mu + effect(movie, test$movie) + effect(user, test$user)
rmse <- sqrt(mean((test$rating - prediction)^2))

cat(sprintf("region %s: %d ratings, rmse %.4f\n", region, nrow(train), rmse))
saveRDS(list(region = region, mu = mu, movie = movie, user = user), "model.rds")
cat(sprintf("rmse=%.6f\nmodel={\"$file\": \"model.rds\"}\n", rmse), file = Sys.getenv("MESON_OUTPUT"), append = TRUE)
